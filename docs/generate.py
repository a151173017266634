"""Writes what is made from the program itself: docs/cli.md, the recipe bbqrec-paper, and the results that README.md and
docs/collisions.md quote from docs/results: python docs/generate.py

tests/test_docs.py fails when one of them is stale.
"""

from __future__ import annotations

import dataclasses
import re
import typing
from importlib import import_module
from pathlib import Path
from typing import Any

from bbqrec_cli.cli.options import COMMANDS, COMMON_FLAGS
from bbqrec_cli.config import StageConfig, flag, load_toml, of_paper
from bbqrec_cli.models.registry import MODELS
from bbqrec_cli.recipes import FOLDER, describe_recipe, literal, names, recipe
from bbqrec_cli.stages.tokenize import TokenizeConfig
from bbqrec_cli.tokenizers.registry import TOKENIZERS

ROOT = Path(__file__).parents[1]
METAVARS = {int: "N", float: "X", str: "TEXT", Path: "PATH"}
HEAD = """# Commands

<!-- Made by `python docs/generate.py`; change the program, not this file. -->

`bbqrec COMMAND --help` says the same. What all commands share (exit codes, `--json`, `--config`, `--resume`) is
explained in [scripting.md](scripting.md).
"""
COMMON = """
## Options of every command

| option | default | meaning |
|---|---|---|
"""
RECIPES = """
## Recipes

`tokenize` and `train` take `--recipe NAME`: settings of the method or model and any options. Other options win. A path
that ends in `.toml` names a recipe of your own, such as one that [`tune`](tuning.md) wrote. What each built-in one is,
and what in it is not as published:
"""
PAPER = """\
# The BBQRec paper as printed: equations 2 to 17, the settings of section 5.1 and the L, N, D and K of 5.4, without what
# we added where it can be left out: no tuple vectors, no epochs without quantisation, no safeguards of the tokenizer's
# losses, no codes moved after they were learnt. Where the codebooks collapse, the run says so and goes on.
#
# What the paper does not print keeps our defaults: learning rates and their warm-up, dropout, layers, epochs, gradients
# clipped (to norm 10, the generator's to 1), weight decay, k-means at the start of the codebooks, how the codes of a
# level are predicted (a softmax per signal), one table that reads and writes codes, code embeddings that enter times
# √D, learnt positions, levels and output biases, attention with several heads (eq. 16's √D is the width of one) and a
# map of their output, and the decoder's start from the last item's states.
#
# Not as printed: gradients pass straight through q (eq. 7), so that the reconstruction and the sequence task move the
# encoders and not the codes; a level's commitment term (eq. 9) moves the encoder alone, and not the codes of the levels
# before, on which its residual depends (eq. 6); the sequence task asks at every position, and its negatives are the
# distinct targets of all of them (printed: those of a batch of 256); features are standardised; a table of K + 1
# vectors e^sim in every layer (printed: one of length K), which start at one (as printed within 0.01 of zero, where
# attention passes nothing on); a token is the sum of its codes' embeddings (printed: signals are concatenated); an item
# without interactions has no ID vector (as printed the one that it began with).
#
# Made by `python docs/generate.py` from the options' declarations.
"""


def main() -> None:
    """Write everything."""
    for path, text in files().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def files() -> dict[Path, str]:
    """Every generated file and what it should hold."""
    found = {ROOT / "docs" / "cli.md": cli(), FOLDER / "bbqrec-paper.toml": paper()}
    return found | {ROOT / "README.md": readme(), ROOT / "docs" / "collisions.md": quoting("collisions")}


def paper() -> str:
    """The recipe of the paper: every option whose declaration says what the paper has."""
    tables = {
        "tokenize": {"method": "bbqrec"} | of_paper(TokenizeConfig) | of_paper(TOKENIZERS.config("bbqrec")),
        "train": {"model": "bbqrec"} | of_paper(MODELS.config("bbqrec")),
    }
    parts = ["".join(f"{key} = {literal(value)}\n" for key, value in table.items()) for table in tables.values()]
    return PAPER + "\n".join(f"[{name}]\n{part}" for name, part in zip(tables, parts, strict=True))


BEGIN, END = "<!-- results:begin -->", "<!-- results:end -->"
RESULTS = {
    "beauty-tuned": ("Amazon Beauty (id, text), tuned with equal budgets", ""),
    "beauty-strong": ("Amazon Beauty (id, text), full trainings", ""),
    "toys-strong": ("Amazon Toys (id, text), full trainings", ""),
    "movielens-strong": ("MovieLens 1M (id, text, image), short trainings", ""),
}
"""Pages in docs/results whose numbers README shows: what they are of, and the heading above the table."""
METRICS = ("Recall@5", "Recall@10", "NDCG@5", "NDCG@10")


def readme() -> str:
    """README.md with the test numbers of the results pages, as `bbqrec benchmark` wrote them, in one table."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    table = row("data", "system", "beyond its paper", *METRICS) + row(*["---"] * 3, *["---:"] * len(METRICS))
    for name, (data, heading) in RESULTS.items():
        carried = carriers(name)
        for system, *cells in cells_of(first_table(name, heading))[1:]:
            own = system.split("<br>")[0]
            numbers = (cell.split("<br>")[0] for cell in cells[: len(METRICS)])
            table += row(f"[{data}](docs/results/{name}.md)", own, carried[own], *numbers)
    return before + BEGIN + "\n" + table + END + rest.split(END)[1]


def carriers(name: str) -> dict[str, str]:
    """system of the suite docs/results/NAME.toml -> what beyond its paper carries its numbers."""
    suite, _ = load_toml(ROOT / "docs" / "results" / f"{name}.toml", "suite")
    found = {}
    for system in suite["system"]:
        given = (recipe(system["recipe"], "train") if "recipe" in system else {}) | system
        config = MODELS.config(given.get("model", system["name"]))
        options = {f.name: given[f.name] for f in dataclasses.fields(config) if f.name in given}
        united = [f"united with {system['unite']}"] if "unite" in system else []
        found[system["name"]] = ", ".join([*config(**options).beyond_paper, *united])
    return found


def cells_of(table: str) -> list[list[str]]:
    """The cells of a Markdown table, without the line below its head."""
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.strip().splitlines()]
    return [lines[0], *lines[2:]]


def quoting(name: str) -> str:
    """docs/NAME.md with the tables that it quotes: `<!-- results/PAGE.md: HEADING -->`, the table, `<!-- end -->`."""
    text = (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8")

    def quoted(found: re.Match[str]) -> str:
        return f"{found[1]}\n\n{first_table(found[2], found[3] or '')}\n<!-- end -->"

    return re.sub(r"(<!-- results/([\w-]+)\.md(?:: (.+?))? -->)\n.*?<!-- end -->", quoted, text, flags=re.DOTALL)


def first_table(name: str, heading: str = "") -> str:
    """The first table of docs/results/NAME.md, or the first below a heading."""
    lines = (ROOT / "docs" / "results" / f"{name}.md").read_text(encoding="utf-8").splitlines()
    lines = lines[lines.index(f"## {heading}") :] if heading else lines
    start = next(number for number, line in enumerate(lines) if line.startswith("|"))
    stop = next(number for number in range(start, len(lines) + 1) if number == len(lines) or not lines[number])
    return "\n".join(lines[start:stop]) + "\n"


def cli() -> str:
    """docs/cli.md."""
    text = HEAD + "".join(section(name) for name in COMMANDS) + RECIPES
    text += "".join(f"\n**{code(name)}**\n\n{describe_recipe(name)}\n" for name in names()) + COMMON
    text += "".join(common_row(f, hint) for f, hint in declared(StageConfig))
    text += "".join(
        row(code(flag(name) + ("" if kind is bool else " PATH")), "", said)
        for name, (kind, said) in COMMON_FLAGS.items()
    )
    return text + row(code("--help, -h"), "", "Show the help and exit.")


def section(name: str) -> str:
    """One command: what it does, its arguments and options, and those of each of its methods."""
    classes = classes_of(name)
    common = {f.name: f for f, _ in declared(StageConfig)}
    own = {f.name: (f, hint) for cls in classes for f, hint in declared(cls) if common.get(f.name) != f}
    own = {key: found for key, found in own.items() if key not in common or found[0].metadata != common[key].metadata}
    typed = [f for f, _ in own.values() if f.metadata["positional"]]
    arguments = "".join(f" {f.name.upper()}" if required(f) else f" [{f.name.upper()}]" for f in typed)
    text = f"\n## {name}\n\n    bbqrec {name}{arguments} [OPTIONS]\n\n{COMMANDS[name]}\n"
    text += "\n| argument or option | default | meaning |\n|---|---|---|\n"
    text += "".join(option_row(f, hint) for f, hint in own.values())
    registry = getattr(classes[-1], "registry", None)
    return text + "".join(method_section(registry, each) for each in registry or ())


def classes_of(name: str) -> list[type]:
    """The configurations of a command: its stage's, and of `tokenize` also that of --append."""
    where = {
        "tokenize": ("stages.append", "stages.tokenize"),
        "benchmark": ("benchmark.speed.result", "benchmark.run"),
        "compare": ("benchmark.compare",),
        "tune": ("tuning.run",),
    }
    modules = [import_module(f"bbqrec_cli.{each}") for each in where.get(name, (f"stages.{name}",))]
    found = [each for module in modules for each in vars(module).values() if isinstance(each, type)]
    own = {module.__name__ for module in modules}
    return [each for each in found if issubclass(each, StageConfig) and each.__module__ in own]


def method_section(registry: Any, name: str) -> str:
    """The options of one method, model or source."""
    title = f"### {registry.option} {name}"
    text = f"\n{title}\n\n{registry.about(name)}\n"
    rows = [option_row(f, hint) for f, hint in declared(registry.config(name))]
    return text + ("\n| option | default | meaning |\n|---|---|---|\n" + "".join(rows) if rows else "")


def declared(cls: type) -> list[tuple[dataclasses.Field, Any]]:
    """The options of a configuration class, with their types."""
    hints = typing.get_type_hints(cls)
    fields = dataclasses.fields(cls)  # type: ignore[arg-type]
    return [(f, hints[f.name]) for f in fields if f.metadata.get("help") and not f.metadata.get("hidden")]


def required(f: dataclasses.Field) -> bool:
    """Whether it must be given."""
    return f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING


def common_row(f: dataclasses.Field, hint: Any) -> str:
    """As `option_row`, and which commands do without it."""
    without = [code(name) for name in COMMANDS if f.name in classes_of(name)[-1].without]
    said = f" Not of {', '.join(without)}, where it would change nothing." if without else ""
    return option_row(f, hint).removesuffix(" |\n") + f"{said} |\n"


def option_row(f: dataclasses.Field, hint: Any) -> str:
    """An option as it is typed, its default, and what it means; what the paper has where that differs."""
    meta, kinds = f.metadata, [k for k in typing.get_args(hint) if k is not type(None)]
    kind = str if typing.get_origin(hint) is tuple or (not isinstance(hint, type) and not kinds) else hint
    kind = kinds[0] if kinds and typing.get_origin(hint) is not tuple else kind
    if meta["positional"]:
        typed = f.name.upper() + ("…" if typing.get_origin(hint) is tuple else "")
    else:
        flags = [flag(f.name) + (f"/--no-{f.name.replace('_', '-')}" if kind is bool and f.default is True else "")]
        flags += [meta["short"]] if meta["short"] else []
        typed = ", ".join(flags) + ("" if kind is bool else f" {METAVARS.get(kind, 'TEXT')}")
    said, default = split_default(meta["help"])
    if meta["choices"] and not all(c in said for c in meta["choices"]):
        said += f" One of: {', '.join(meta['choices'])}."
    if meta["paper"] is not dataclasses.MISSING:
        said += f" The paper: `{shown(meta['paper'])}`."
    return row(code(typed), code(default or ("" if required(f) or f.default is None else shown(f.default))), said)


def split_default(said: str) -> tuple[str, str]:
    """'Seed. [default: 0]' -> ('Seed.', '0')."""
    found = re.fullmatch(r"(.*?)\s*\[default: (.*)\]", said, re.DOTALL)
    return (found[1], found[2]) if found else (said, "")


def shown(default: Any) -> str:
    """A default as one would type it."""
    if isinstance(default, bool):
        return "on" if default else "off"
    return ",".join(map(str, default)) if isinstance(default, tuple) else str(default)


def row(*cells: str) -> str:
    """A row of a Markdown table."""
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n"


def code(text: str) -> str:
    """In backticks, unless it is empty or a phrase."""
    return f"`{text}`" if text and not re.fullmatch(r"[\w']+( [\w']+)+", text) else text


if __name__ == "__main__":
    main()
