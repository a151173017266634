"""`[[sweep]]`: a tokenizer or system once for each value of an option; `suites`: several suites as one."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bbqrec_cli.benchmark.checks import chosen, only, table
from bbqrec_cli.errors import UsageError

Tables = dict[str, dict[str, dict[str, Any]]]
"""'tokenizer' and 'system' -> name -> the table, not yet checked."""

JOINED = ("tokenizer", "system", "sweep", "table", "published")
"""The `[[tables]]` that suites of other suites have of these."""


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """rows: (value, the system that has it; without one the tokenizer), value by value."""

    option: str
    rows: tuple[tuple[str, str], ...]


def expand(sweeps: Mapping[str, dict[str, Any]], tables: Tables, path: Path) -> dict[str, Sweep]:
    """Add what the sweeps vary to the tables, each value under a name of its own: 'ours, levels=2'.

    A sweep names a `tokenizer`, the `system` that is to run on each of its versions or neither, or a `system` alone.

    Raises:
        UsageError: a sweep that does not fit.
    """
    known, found = {kind: tuple(tables[kind]) for kind in tables}, {}
    for name, sweep in sweeps.items():
        where = f"{path}: [[sweep]] {name!r}"
        only(sweep, ("tokenizer", "system", "option", "values"), where)
        values, option = sweep.get("values"), sweep.get("option")
        bases: dict[str, str] = {}
        bases |= {kind: chosen(sweep[kind], known[kind], f"{where}: {kind}", several=False)[0]
                 for kind in ("tokenizer", "system") if kind in sweep}  # fmt: skip
        if not bases or not isinstance(option, str) or not isinstance(values, list) or not values:
            raise UsageError(f"{where} needs a tokenizer or a system, an option and a list of values")
        if name in (*tables["tokenizer"], *tables["system"]):
            raise UsageError(f"{where}: a tokenizer or system has that name already")
        option = option.replace("-", "_")
        outer, dot, _ = option.rpartition(".")
        if dot and (outer != "evaluate" or list(bases) != ["system"]):
            raise UsageError(f"{where}: option is {option!r}", 'only a system has options of a table: "evaluate.beam"')
        rows = [(_text(value), _add(tables, bases, option, value, where)) for value in values]
        found[name] = Sweep(option=option, rows=tuple(rows))
    return found


def _add(tables: Tables, bases: Mapping[str, str], option: str, value: Any, where: str) -> str:
    """Add a version of every base with the option, which belongs to the first of them; the name of the last.

    Raises:
        UsageError: another one, of another sweep or of the suite, has that name.
    """
    names = {kind: f"{base}, {option}={_text(value)}" for kind, base in bases.items()}
    for kind, base in bases.items():
        made = copy.deepcopy(tables[kind][base])
        made.pop("reported", None)
        if kind == "system" and "recipe" not in made:
            made.setdefault("model", base)
        if kind == "system" and "tokenizer" in names:
            made["tokenizer"] = names["tokenizer"]
        else:
            outer, _, last = option.rpartition(".")  # evaluate.beam
            inner = f"[[{kind}]] {base!r}, {outer}"
            made |= {outer: table(made.get(outer, {}), inner) | {last: value}} if outer else {last: value}
            if not isinstance(free := made.get("tune", True), bool):  # what varies is not tuned
                made["tune"] = [each for each in (free if isinstance(free, list) else [free]) if each != option]
        if tables[kind].setdefault(names[kind], made) != made:
            raise UsageError(
                f"{where}: there is another {kind} of the name {names[kind]!r}, which it would give to its own",
                f"a {kind} of another name with the same settings, for this sweep",
            )
    return list(names.values())[-1]


def join(values: dict[str, Any], more: Mapping[str, Any], where: str) -> None:
    """Add the tokenizers, systems, sweeps, tables and published numbers of another suite, those of the same name once.

    A table of the other suite that shows "all" or "tokenizers" shows those of its own suite.

    Raises:
        UsageError: two of a name that are not the same, or data, options of evaluate or a budget of tuning in the other
            suite.
    """
    for key in ("data", "evaluate", "tune"):
        if key in more:
            raise UsageError(f"{where}: it has [{key}], which belongs to the suite that is run")
    names = {key: [each.get("name") for each in more.get(key, ())] for key in ("system", "tokenizer")}
    used = {each.get("tokenizer") for each in more.get("system", ())}
    alone = [name for name in names["tokenizer"] if name not in used]
    swept = [each.get("name") for each in more.get("sweep", ())]
    of_tokenizers = [each.get("name") for each in more.get("sweep", ()) if "system" not in each]
    every = {"all": names["system"] + alone + swept, "tokenizers": names["tokenizer"] + of_tokenizers}
    for key in JOINED:
        known = {each["name"] for each in values.get(key, ()) if "name" in each}
        for each in more.get(key, ()):
            if key == "table":
                rows = each.get("rows", "all")
                words = rows if isinstance(rows, list) else [rows]
                each = each | {"rows": [name for word in words for name in every.get(str(word), [word])]}
            if each in values.get(key, ()):
                continue
            if each.get("name") in known:
                raise UsageError(f"{where}: its [[{key}]] {each['name']!r} is another one than that of the same name")
            values.setdefault(key, []).append(each)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return "+".join(map(str, value)) if isinstance(value, list) else str(value)
