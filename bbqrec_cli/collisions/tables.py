"""The tables of an analysis, for the terminal and the pages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bbqrec_cli.collisions.agreement import Agreement
from bbqrec_cli.collisions.analysis import Analysis, Group
from bbqrec_cli.pages.tables import NOT_KNOWN, Shown, Table, make, plain

NAMES = 4
"""Items of a group that are named."""
LONGEST = 60
"""Characters of a name."""
ACROSS = 8
"""Levels that have a column each, at most; more do not fit a terminal. JSON has all."""


def of_file(found: Analysis) -> list[Table]:
    """All tables of one file, in the order of display, including those without rows."""
    return [
        prefixes_table(found), codebooks_table(found), otherwise_table(found), partings_table(found),
        duplicates_table(found), alike_table(found), neighbours_table(found), near_table(found), differ_table(found),
        groups_table(found), pairs_table(found),
    ]  # fmt: skip


def quantised_levels(found: Analysis) -> int:
    """Levels of codes, without one that counts items of equal codes."""
    return max((book.level for book in found.codebooks), default=len(found.depths))


def comparison_table(every: Sequence[Analysis]) -> Table:
    """One row per file."""
    features = list(dict.fromkeys(kept.feature for found in every for kept in found.neighbours))
    columns = ("file", "shape", "items", "distinct", "colliding", "perplexity")
    rows = []
    for found in every:
        recall = {kept.feature: kept.recall for kept in found.neighbours if kept.vectors == "all"}
        used = [100 * book.perplexity / max(1, book.size) for book in found.codebooks]
        levels = quantised_levels(found)
        counted = "+1" if levels < len(found.depths) else ""
        rows.append((
            Shown((found.input, found.method)), f"{levels}{counted}×{len(found.signals)}×{found.codebook_size:,}",
            found.items, found.distinct,
            Shown((plain(found.colliding_items), share(found.colliding_items, found.items))),
            f"{min(used):.0f}–{max(used):.0f}%", *(digits(recall.get(name), 3) for name in features),
        ))  # fmt: skip
    note = "Shape: levels × signals × codes (+1: a level that counts items of equal codes). "
    note += "Colliding: items that share their whole ID. "
    note += "Perplexity: lowest and highest of the codebooks, in per cent of the codes."
    note += " Kept: recall of the feature's nearest neighbours among the quantised vectors." if features else ""
    return make("side by side", (*columns, *(f"{name} kept" for name in features)), rows, left=2, note=note)


def prefixes_table(found: Analysis) -> Table:
    """One row per depth."""
    columns = ("depth", "distinct", "colliding", "of all", "largest", "entropy", "Gini", "children", "most")
    rows = [
        (
            d.depth, d.distinct, d.colliding_items, share(d.colliding_items, found.items), d.largest,
            f"{d.entropy:.2f}", f"{d.gini:.2f}", f"{d.mean_children:,.1f}", d.max_children,
        )
        for d in found.depths
    ]  # fmt: skip
    note = "Of IDs cut after so many levels. Entropy in bits. Children per prefix of the depth above: mean and most."
    return make("prefixes", columns, rows, note=note)


def codebooks_table(found: Analysis) -> Table:
    """One row per signal and level."""
    columns = ("signal", "level", "items", "in use", "perplexity", "entropy", "Gini")
    rows = [
        (
            book.signal, book.level, book.items, f"{book.in_use:,} of {book.size:,}",
            f"{book.perplexity:.1f}", f"{book.entropy:.2f}", f"{book.gini:.2f}",
        )
        for book in found.codebooks
    ]  # fmt: skip
    return make("codebooks", columns, rows, note="Over the items that have the signal.")


def otherwise_table(found: Analysis) -> Table:
    """Collisions with a signal or a level left out, and with one signal alone."""
    causes, items = found.causes, found.items
    rows = [("all", items, found.colliding_items, share(found.colliding_items, items))]
    levels, note = quantised_levels(found), "Items that would share their whole ID."
    if levels < len(found.depths):
        note += " The rows below *all* lack the level that counts items of equal codes."
        before = found.depths[levels - 1].colliding_items
        rows.append(("without the level that counts", items, before, share(before, items)))
    for what, counts in (("without", causes.without_signal), ("without level", causes.without_level)):
        rows += [(f"{what} {name}", items, count, share(count, items)) for name, count in counts.items()]
    # Of two signals that all items have, one left out is the other alone.
    told = len(found.signals) > 2 or set(causes.only_items.values()) != {items}
    for name, count in causes.only_signal.items() if told else ():
        rows.append((f"{name} alone", causes.only_items[name], count, share(count, causes.only_items[name])))
    note += " A signal alone: among the items that have it." if told and causes.only_signal else ""
    return make("IDs of other parts", ("IDs", "items", "colliding", "of all"), rows if len(rows) > 1 else [], note=note)


def partings_table(found: Analysis) -> Table:
    """What each signal tells apart at each level; empty with a single signal."""
    columns = ("level", "signal", "sharing", "pairs", "parted", "resolved alone", "needed")
    rows = [
        (p.level, p.signal, p.sharing, p.pairs, share(p.parted, p.pairs), p.resolved, p.needed)
        for p in sorted(found.causes.partings, key=lambda p: p.level)
        if len(found.signals) > 1
    ]
    note = "Sharing: items that share all levels before with another item, and their pairs. Parted: pairs whose code "
    note += "differs here. Resolved alone: items that this code alone tells from all others. Needed: items that the "
    note += "level would not resolve without it."
    return make("what tells items apart", columns, rows, left=2, note=note)


def duplicates_table(found: Analysis) -> Table:
    """Duplicates and victims among the colliding items."""
    made = found.duplicates
    if not made.colliding_items or made.unknown == made.colliding_items:
        return make("duplicates and victims", ("what", "items"), [])
    counts = [("duplicates", made.duplicates), ("… by their title", made.same_title)]
    counts += [("… by their features", made.same_features)] if made.same_features is not None else []
    counts += [("victims", made.victims)] + ([("not known", made.unknown)] if made.unknown else [])
    rows = [(what, count, share(count, made.colliding_items)) for what, count in counts]
    note = (
        "Of the items in collisions. Duplicates: with the title of another item of the same ID, or features of cosine "
    )
    note += "above .99." if made.same_features is not None else "above .99 (--features)."
    return make("duplicates and victims", ("what", "items", "of them"), rows, note=note)


def alike_table(found: Analysis) -> Table:
    """Mean cosine of each feature by depth."""
    shown = range(min(len(found.depths), ACROSS) + 1)
    columns = ("feature", *(f"{depth} levels" if depth != 1 else "1 level" for depth in shown))
    rows = [(name, *(digits(values[depth], 3) for depth in shown)) for name, values in found.alike.items()]
    return make(
        "likeness", columns, rows, note="Mean cosine of two items that share so many levels; 0: of any two items."
    )


def neighbours_table(found: Analysis) -> Table:
    """Recall of the features' nearest neighbours."""
    columns = ("feature", "vectors", "items", "k", "kept", "by chance")
    rows = [(k.feature, k.vectors, k.asked, k.k, digits(k.recall, 4), digits(k.chance, 4)) for k in found.neighbours]
    note = "Share of an item's k nearest by the feature that are among its k nearest by the quantised vectors (cosine)."
    return make("kept neighbours", columns, rows, left=2, note=note)


def near_table(found: Analysis) -> Table:
    """Near-collisions in figures."""
    near = found.near
    rows: list[tuple[str, Any]] = []
    if near:
        rows = [
            ("items searched", near.searched), ("… with a near item of another ID", near.other_id),
            ("… with a near item of the same ID", near.same_id),
            ("near items of another ID, on average", f"{near.neighbours:.2f}"),
            ("bound", f"{near.near:g} × {near.scale:.4g}"),
        ]  # fmt: skip
    note = (
        "Items whose quantised vectors lie closer than the bound, a share of the typical (root mean square) distance."
    )
    return make("near-collisions", ("what", "value"), rows, note=note)


def differ_table(found: Analysis) -> Table:
    """Which codes tell near items apart."""
    near = found.near
    hits = near.neighbours * near.searched if near else 0
    rows = [(name, *(share(n, hits) for n in counts)) for name, counts in near.differ.items()] if near and hits else []
    columns = ("signal", *(f"level {depth.depth}" for depth in found.depths))
    return make(
        "what tells near items apart", columns, rows, note="Near pairs with different IDs whose code differs there."
    )


def groups_table(found: Analysis) -> Table:
    """The largest groups that share an ID."""
    judged = found.duplicates.unknown < found.duplicates.colliding_items
    columns = ("semantic ID", "which", "items", *(("duplicates",) if judged else ()), *found.alike)
    rows = [
        (
            code_text(group.code), group_members(group), group.size, *((group.duplicates,) if judged else ()),
            *(digits(group.cosine[name], 2) for name in found.alike),
        )
        for group in found.groups
    ]  # fmt: skip
    note = "A feature's column: mean cosine of the group." if found.alike else ""
    return make("largest groups", columns, rows, left=2, note=note)


def pairs_table(found: Analysis) -> Table:
    """The closest pairs with different IDs."""
    pairs = zip(found.near.closest, found.near_items, strict=True) if found.near else ()
    rows = [
        (*(shortened(item["title"] or item["id"]) for item in items), f"{pair.distance:.4f}") for pair, items in pairs
    ]
    return make("closest items with different IDs", ("one", "other", "distance"), rows, left=2)


def agreement_table(pairs: Sequence[tuple[str, str, Agreement]]) -> Table:
    """Adjusted mutual information of every two files of the same items, level by level."""
    levels = min(ACROSS, max((len(each.prefixes) for _, _, each in pairs), default=0))
    rows = []
    for one, other, each in pairs:
        lines: Mapping[str, Sequence[float | None]] = {**each.codes, "prefixes": each.prefixes}
        for name, values in lines.items():
            shown = [digits(value, 3) for value in values[:levels]] + [""] * (levels - len(values))
            rows.append((f"{one}, {other}", name, *shown))
    columns = ("files", "what", *(f"level {level}" for level in range(1, levels + 1)))
    note = (
        "Adjusted mutual information: 1 if the same items are put together, 0 as by chance. Prefixes: so many levels."
    )
    return make("agreement", columns, rows, left=2, note=note)


def share(count: float, of: float) -> str:
    """Per cent, with two decimals below 1%."""
    percent = 100 * count / of if of else 0.0
    return NOT_KNOWN if not of else f"{percent:.2f}%" if 0 < percent < 1 else f"{percent:.1f}%"


def digits(value: float | None, number: int) -> str:
    """A number with `number` decimals."""
    return NOT_KNOWN if value is None else f"{round(value, number) + 0.0:.{number}f}"  # no minus before nought


def code_text(code: list[list[int]]) -> str:
    """An ID, level by level: '3 1 4' with one signal, '3,7 1,0 4,4' with several."""
    return " ".join(",".join(map(str, level)) for level in code)


def group_members(group: Group) -> str:
    """The first items by title, or by id without one, and how many lack a signal."""
    names = [shortened(each["title"] or each["id"]) for each in group.items[:NAMES]]
    more = f"; and {group.size - NAMES:,} more" if group.size > NAMES else ""
    lacking = ", ".join(f"{count:,} without {name}" for name, count in group.lacking.items())
    return "; ".join(names) + more + (f" ({lacking})" if lacking else "")


def shortened(name: str) -> str:
    return name if len(name) <= LONGEST else name[: LONGEST - 1] + "…"
