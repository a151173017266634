"""RecBole's atomic files: X.inter and X.item, the split as X.train.inter, X.valid.inter, X.test.inter, and X.yaml.

The split is written out, since RecBole's own leave-one-out (`LS: valid_and_test`) has no validation target for a user
with three interactions. I items, E interactions, d width of a feature. `data/sources/recbole.py` reads all of it.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from bbqrec_cli.data.sources.exported import MAP
from bbqrec_cli.data.sources.files import between
from bbqrec_cli.data.sources.recbole import LIST_SUFFIX, SPLITS
from bbqrec_cli.data.splits import Split
from bbqrec_cli.errors import DataError
from bbqrec_cli.formats.items import item_fields, parts_of
from bbqrec_cli.records import LIST_SEPARATOR, Catalogue, Dataset

USER, ITEM, TIME, PLACE = "user_id", "item_id", "timestamp", "position"
_NAMES = (USER, ITEM, TIME, PLACE, ITEM + LIST_SUFFIX)
_MISSING = {
    "", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA",
    "NULL", "NaN", "None", "n/a", "nan", "null", "[PAD]",
}  # fmt: skip
"""What pandas, with which RecBole reads, takes for a missing value, and RecBole's padding."""
_YAML = """\
# {name} for RecBole, written by bbqrec. In the folder that holds the folder {name}:
#   run_recbole --model SASRec --dataset {name} --config_files {name}/{name}.yaml
# The three files of the split hold each target with the last {history} items before it
# ({splitting}). Every item of the catalogue is ranked.
dataset: {quoted}
data_path: .
benchmark_filename: [{splits}]
USER_ID_FIELD: {user}
ITEM_ID_FIELD: {item}
TIME_FIELD: {time}
alias_of_item_id: [{item}{suffix}]
load_col:
  inter: [{user}, {item}, {item}{suffix}]
  item: [{item}]  # further columns of {name}.item, for models that use them
MAX_ITEM_LIST_LENGTH: {history}
eval_args: {{split: {{LS: valid_and_test}}, group_by: user, order: TO, mode: full}}
repeatable: true
metrics: [Recall, NDCG]
topk: [5, 10]
valid_metric: NDCG@10
# For models with a softmax over all items; with loss_type BPR, remove both lines.
loss_type: CE
train_neg_sample_args: ~
"""


def write_recbole(folder: Path, name: str, dataset: Dataset, split: Split, *, history: int) -> dict[str, dict]:
    """Write the files of the data set `name`.

    Args:
        split: whose targets the three files have, with the last `history` items before each.

    Returns:
        what X.map.json holds: 'users', 'items', 'fields' -> written name -> own one, where any had to change.

    Raises:
        DataError: a name that RecBole gives to a part of a split.
    """
    if name.endswith(tuple(f".{part}" for part in SPLITS)):
        raise DataError(f"{name}: RecBole ends the names of a split's files so", "give -o another name")
    catalogue = dataset.catalogue
    users, renamed_users = written_ids(catalogue.user_ids)
    items, renamed_items = written_ids(catalogue.item_ids)
    _write_log(folder / f"{name}.inter", catalogue, users, items)
    for part, rows in zip(SPLITS, parts_of(split, history=history), strict=True):
        heads = [f"{USER}:token", f"{ITEM}{LIST_SUFFIX}:token_seq", f"{ITEM}:token"]
        named = ((users[u], " ".join(items[i] for i in before), items[target]) for u, before, target in rows)
        _write(folder / f"{name}.{part}.inter", heads, named)
    renamed_fields = _write_items(folder / f"{name}.item", dataset, items)
    time = PLACE if catalogue.sequences.timestamps is None else TIME
    text = _YAML.format(
        name=name, quoted=json.dumps(name, ensure_ascii=False), user=USER, item=ITEM, time=time, suffix=LIST_SUFFIX,
        history=history, splits=", ".join(SPLITS), splitting=f"split {catalogue.splitting}",
    )  # fmt: skip
    (folder / f"{name}.yaml").write_text(text, encoding="utf-8")
    changed = {"users": renamed_users, "items": renamed_items, "fields": renamed_fields}
    changed = {kind: names for kind, names in changed.items() if names}
    if changed:
        (folder / f"{name}{MAP}").write_text(json.dumps(changed, ensure_ascii=False, indent=1), encoding="utf-8")
    return changed


def written_ids(ids: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """The ids as they are, and nothing; or row numbers, and number -> id, if RecBole would misread one of them.

    It splits lists at spaces and takes some words for missing values.
    """
    if not any(name in _MISSING or name.split() != [name] for name in ids):
        return list(ids), {}
    return [str(row) for row in range(len(ids))], {str(row): name for row, name in enumerate(ids)}


def _write(path: Path, heads: list[str], rows: Iterable[Sequence[Any]]) -> None:
    with open(path, "w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, delimiter="\t", lineterminator="\n")
        writer.writerow(heads)
        writer.writerows(rows)


def _write_log(path: Path, catalogue: Catalogue, users: list[str], items: list[str]) -> None:
    """All interactions, in order; without times, the place of each in its user's sequence."""
    sequences = catalogue.sequences
    times = sequences.timestamps
    last = sequences.positions if times is None else times
    heads = [f"{USER}:token", f"{ITEM}:token", f"{PLACE if times is None else TIME}:float"]
    rows = zip(sequences.users.tolist(), sequences.items.tolist(), last.tolist(), strict=True)
    _write(path, heads, ((users[user], items[item], time) for user, item, time in rows))


def _write_items(path: Path, dataset: Dataset, items: list[str]) -> dict[str, str]:
    """Fields as token or token_seq, features as float_seq. Returns: written name -> own one, where it changed."""
    heads, columns, renamed = [f"{ITEM}:token"], [items], {}
    taken = set(_NAMES)

    def add(name: str, kind: str, values: list[str]) -> None:
        written = re.sub(r"[^\w-]", "_", name) or "_"
        while written in taken:
            written += "_"
        taken.add(written)
        heads.append(f"{written}:{kind}")
        columns.append(values)
        if written != name:
            renamed[written] = name

    for name, values in item_fields(dataset).items():
        listed = between(name) == LIST_SEPARATOR and _is_list(values)
        add(name, "token_seq" if listed else "token", [v.replace(LIST_SEPARATOR, " ") if listed else v for v in values])
    for name, feature in dataset.features.items():
        rows = zip(feature.values, feature.present, strict=True)
        # 9 digits say which float32 it is.
        add(name, "float_seq", [" ".join(f"{x:.9g}" for x in row.tolist()) if there else "" for row, there in rows])
    _write(path, heads, zip(*columns, strict=True))
    return renamed


def _is_list(values: list[str]) -> bool:
    """Whether a field holds lists whose values can stand with spaces between."""
    parts = [part for value in values if value for part in value.split(LIST_SEPARATOR)]
    return any(LIST_SEPARATOR in value for value in values) and all(part.split() == [part] for part in parts)
