"""Writes docs/cli.md and the configuration files in examples/ from the program itself, and the results in README.md
and docs/collisions.md from docs/results: python docs/generate.py

tests/test_docs.py fails when one of them is stale.
"""

from __future__ import annotations

import dataclasses
import re
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from typer.models import OptionInfo

from bbqrec_cli.cli.app import make_app
from bbqrec_cli.config import flag
from bbqrec_cli.models.registry import MODELS
from bbqrec_cli.stages.tokenize import TokenizeConfig
from bbqrec_cli.stages.train import TrainConfig
from bbqrec_cli.tokenizers.registry import TOKENIZERS

ROOT = Path(__file__).parents[1]
METAVARS = {int: "N", float: "X", str: "TEXT", Path: "PATH", list[str]: "TEXT"}
PLACEHOLDERS = {"index": ("index.json",), "collaborative": "sasrec.h5"}
"""Options without which a method cannot work, and what the examples say for them."""
METHODS = {
    "tokenize": ("--method", TokenizeConfig, {name: config for name, (_, config) in TOKENIZERS.items()}),
    "train": ("--model", TrainConfig, {name: config for name, (_, config) in MODELS.items()}),
}
"""Commands whose options depend on a choice: the flag of the choice, the options of all, those of each."""

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
TOML_HEAD = """# {about}
# Every option with its default. {use}
# Flags win over this file; keys may be left out.
"""


@dataclasses.dataclass(frozen=True)
class Parameter:
    """A flag or an argument as it is typed; name: the TOML key; default: '' where there is none."""

    name: str
    typed: str
    default: str
    about: str
    positional: bool = False
    required: bool = False

    def row(self) -> str:
        """A row of a Markdown table."""
        return row(code(self.typed), code(self.default), self.about)


def main() -> None:
    """Write everything."""
    for path, text in files().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def files() -> dict[Path, str]:
    """Every generated file and what it should hold."""
    found = {ROOT / "docs" / "cli.md": cli()}
    for name, (_, config) in TOKENIZERS.items():
        found[ROOT / "examples" / "tokenizers" / f"{name}.toml"] = toml("tokenize", name, config)
    for name, (_, config) in MODELS.items():
        found[ROOT / "examples" / "models" / f"{name}.toml"] = toml("train", name, config)
    return found | {ROOT / "README.md": readme(), ROOT / "docs" / "collisions.md": quoting("collisions")}


BEGIN, END = "<!-- results:begin -->", "<!-- results:end -->"
RESULTS = {"beauty": "Amazon Beauty, id and text", "movielens": "MovieLens 1M, id, text and image"}
"""Pages in docs/results whose tables README shows, and what they are of."""


def readme() -> str:
    """README.md with the first tables of the results pages, as `bbqrec benchmark` wrote them."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    parts = [f"**{about}**\n\n{first_table(name)}\n[more](docs/results/{name}.md)\n" for name, about in RESULTS.items()]
    return before + BEGIN + "\n" + "\n".join(parts) + END + rest.split(END)[1]


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
    commands = {c.name: c.callback for c in make_app().registered_commands if c.name and c.callback}
    everywhere = set.intersection(*({p.name for p in parameters(each)} for each in commands.values()))
    common = [p for p in parameters(commands["inspect"]) if p.name in everywhere]
    text = HEAD + "".join(section(name, function, common) for name, function in commands.items())
    return text + COMMON + "".join(p.row() for p in common) + row(code("--help, -h"), "", "Show the help and exit.")


def section(name: str, function: Any, common: list[Parameter]) -> str:
    """One command; common: the options that stand elsewhere, unless they mean something else here."""
    choice, own, methods = METHODS.get(name, ("", None, {}))
    of_methods = {f.name for each in methods.values() for f in dataclasses.fields(each)}
    of_methods -= {f.name for f in dataclasses.fields(own)} if own else set()
    every = [p for p in parameters(function) if p not in common and p.name not in of_methods]
    arguments = "".join(f" {p.typed}" if p.required else f" [{p.typed}]" for p in every if p.positional)
    text = f"\n## {name}\n\n    bbqrec {name}{arguments} [OPTIONS]\n\n{(function.__doc__ or '').strip()}\n"
    text += "\n| argument or option | default | meaning |\n|---|---|---|\n" + "".join(p.row() for p in every)
    typed = {p.name: p.typed for p in parameters(function)}
    return text + (method_table(choice, methods, typed) if methods else "")


def method_table(choice: str, methods: dict[str, type], typed: dict[str, str]) -> str:
    """Options that only some methods have, and every method's default; typed: name -> the flag as it is typed."""
    names = list(methods)
    text = f"\nOptions of each `{choice}` and its default (–: has no such option):\n\n"
    text += row("option", *map(code, names), "meaning") + "|---" * (len(names) + 2) + "|\n"
    fields: dict[str, dict[str, dataclasses.Field]] = {}
    for method, config in methods.items():
        for f in dataclasses.fields(config):
            fields.setdefault(f.name, {})[method] = f
    for name, having in fields.items():
        about = next(iter(having.values())).metadata
        extra = "" if all(c in about["help"] for c in about["choices"]) else f" One of: {', '.join(about['choices'])}."
        defaults = [code(shown(having[m].default)) or "empty" if m in having else "–" for m in names]
        text += row(code(typed[name]), *defaults, about["help"] + extra)
    return text


def parameters(function: Any) -> Iterator[Parameter]:
    """What a command takes, as its function's signature tells Typer."""
    for name, each in function.__signature__.parameters.items():
        kind, info = typing.get_args(each.annotation)
        kinds = [k for k in typing.get_args(kind) if k is not type(None)]
        kind = kinds[0] if kinds and typing.get_origin(kind) is not list else kind
        about, default = split_default(info.help.replace("\\[", "["))
        if isinstance(info, OptionInfo):
            value = "" if kind is bool else f" {METAVARS[kind]}"
            yield Parameter(name, ", ".join([info.default, *(info.param_decls or ())]) + value, default, about)
        else:
            needed = each.default is each.empty
            yield Parameter(name, name.upper() + ("…" if kind == list[str] else ""), default, about, True, needed)


def split_default(about: str) -> tuple[str, str]:
    """'Seed. [default: 0]' -> ('Seed.', '0')."""
    found = re.fullmatch(r"(.*?)\s*\[default: (.*)\]", about, re.DOTALL)
    return (found[1], found[2]) if found else (about, "")


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


def toml(command: str, method: str, config: type) -> str:
    """A configuration file for one tokenizer or model."""
    choice, own, _ = METHODS[command]
    folder = "tokenizers" if command == "tokenize" else "models"
    use = f"Use: bbqrec {command} --config examples/{folder}/{method}.toml"
    about = " ".join((config.__doc__ or "").strip().splitlines()[0].split())
    text = TOML_HEAD.format(about=about, use=use) + f"[{command}]\n"
    seen: set[str] = set()
    for cls in (own, config):
        for f in dataclasses.fields(cls):
            stored = f.metadata.get("stored", True) and f.metadata.get("help") and not f.metadata["positional"]
            if not stored or f.name in seen or f.default is None:  # TOML has no way to say "not given"
                continue
            seen.add(f.name)
            value = method if flag(f.name) == choice else PLACEHOLDERS.get(f.name, f.default)
            text += f"{f.name} = {literal(value)}  # {f.metadata['help']}\n"
    return text


def literal(value: Any) -> str:
    """A value in TOML."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return "[" + ", ".join(map(literal, value)) + "]"
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return str(value)


if __name__ == "__main__":
    main()
