"""Makes docs/terminal.svg, the picture in README.md, of real output: python docs/terminal.py DEMO

DEMO is the folder that `make demo` (examples/demo.sh) left.
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text

COMMANDS = (
    "evaluate --against popularity-metrics.h5 -o again.h5 --force --quiet",
    "recommend --users 1 --top 3 --quiet",
    "collisions --quiet",
)
LINES = {"collisions": 9}
"""How many lines of a long output are shown."""
WIDTH = 92


def main() -> None:
    """Run the commands in the demo's folder and draw what they print."""
    console = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    for command in COMMANDS:
        said = subprocess.run(
            [sys.executable, "-m", "bbqrec_cli", *command.split()], cwd=sys.argv[1], text=True, check=True,
            stdout=subprocess.PIPE, env=os.environ | {"FORCE_COLOR": "1", "COLUMNS": str(WIDTH)},
        ).stdout.rstrip()  # fmt: skip
        name = command.split()[0]
        lines = said.replace("again.h5", "metrics.h5").splitlines()[: LINES.get(name)]
        shown = command.replace(" -o again.h5 --force", "").replace(" --quiet", "")
        console.print(Text.assemble(("$ ", "bold green"), ("bbqrec " + shown, "bold")))
        console.print(Text.from_ansi("\n".join(lines)))
        console.print()
    console.save_svg(str(Path(__file__).with_name("terminal.svg")), title="bbqrec, the demo catalogue")
    (Path(sys.argv[1]) / "again.h5").unlink()


main()
