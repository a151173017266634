"""The files that the trainers of LETTER, LC-Rec and MQL4GRec, and of MiniOneRec, read. Ids are rows, from 0.

`data/sources/letter.py` reads the former. I items.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bbqrec_cli.data.splits import EVALUATED, Split
from bbqrec_cli.errors import DataError
from bbqrec_cli.formats.items import Row, parts_of
from bbqrec_cli.formats.semantic_id_json import index_tokens
from bbqrec_cli.records import LIST_SEPARATOR, Catalogue, Codes, Dataset

CATEGORIES = ("categories", "category", "genres")
"""Attributes that may serve as `categories`."""
_MINIONEREC = (
    "user_id", "history_item_title", "item_title", "history_item_id", "item_id", "history_item_sid", "item_sid"
)  # fmt: skip


def write_letter(folder: Path, name: str, dataset: Dataset, codes: Codes | None) -> int:
    """X.inter.json, X.item.json, X.index.json if there are IDs, X.emb-bbqrec-….npy of features, and maps of ids.

    Returns:
        the users that are left out: the trainers need two held-out items and one to learn from.

    Raises:
        DataError: features of text and td, which would have one file.
    """
    if {"text", "td"} <= {*dataset.features}:
        raise DataError(
            "the features text and td would have one file in LETTER's format, where td are the vectors of texts",
            "bbqrec embed --vectors NAME=FILE, with another name than td",
        )
    catalogue = dataset.catalogue
    users = np.flatnonzero(catalogue.sequences.lengths >= EVALUATED).tolist()
    sequences = {str(row): catalogue.sequences[user].tolist() for row, user in enumerate(users)}
    _write_json(folder / f"{name}.inter.json", sequences)
    _write_json(folder / f"{name}.item.json", item_entries(dataset, catalogue.titles))
    if codes is not None:
        _write_json(folder / f"{name}.index.json", _index(codes))
    for kind, feature in dataset.features.items():
        np.save(folder / embeddings_name(name, kind), feature.values)
    _write_map(folder / f"{name}.user2id", [catalogue.user_ids[user] for user in users])
    _write_map(folder / f"{name}.item2id", catalogue.item_ids)
    return catalogue.users - len(users)


def embeddings_name(name: str, feature: str) -> str:
    """The file of a feature's vectors; 'td' marks those of texts."""
    return f"{name}.emb-bbqrec-{'td' if feature == 'text' else feature}.npy"


def read_back_options(output: Path, dataset: Dataset) -> list[str]:
    """What `prepare letter` must be told of the folder `output`: what the texts are, which of several embeddings."""
    words = ["--text-fields", "description"] if any(dataset.texts) else []
    for kind, flag in (("text", "--text-embeddings"), ("image", "--image-embeddings")):
        those = [name for name in dataset.features if (name == "text" or name.endswith("-td")) == (kind == "text")]
        if len(those) > 1:
            chosen = kind if kind in those else those[0]
            words += [flag, str(output / embeddings_name(output.absolute().name, chosen))]
    return words


def write_minionerec(folder: Path, name: str, dataset: Dataset, codes: Codes, split: Split, *, history: int) -> None:
    """train/X.csv, valid/X.csv and test/X.csv, info/X.txt, index/X.index.json and index/X.item.json, and maps of ids.

    Args:
        split: whose targets the three tables have, with the last `history` items before each.
    """
    catalogue = dataset.catalogue
    titles = [title or f"Item_{row}" for row, title in enumerate(catalogue.titles)]
    tokens = ["".join(row) for row in index_tokens(codes.codes)]
    for part in ("train", "valid", "test", "info", "index"):
        (folder / part).mkdir()
    for part, rows in zip(("train", "valid", "test"), parts_of(split, history=history), strict=True):
        _write_table(folder / part / f"{name}.csv", catalogue, titles, tokens, rows)
    lines = [f"{each}\t{title}\t{row}\n" for row, (each, title) in enumerate(zip(tokens, titles, strict=True))]
    (folder / "info" / f"{name}.txt").write_text("".join(lines), encoding="utf-8")
    _write_json(folder / "index" / f"{name}.index.json", _index(codes))
    _write_json(folder / "index" / f"{name}.item.json", item_entries(dataset, titles))
    _write_map(folder / f"{name}.item2id", catalogue.item_ids)


def item_entries(dataset: Dataset, titles: Sequence[str]) -> dict[str, dict[str, str]]:
    """Row -> title, description (the text that is embedded), brand, categories and the other attributes."""
    attributes = dataset.catalogue.attributes
    category = next((name for name in CATEGORIES if name in attributes), "")
    columns: dict[str, Any] = {"title": titles, "description": dataset.texts, "brand": attributes.get("brand")}
    columns |= {"categories": attributes.get(category)}
    columns |= {name: values for name, values in attributes.items() if name not in (*columns, category)}
    made = {}
    for row in range(dataset.catalogue.items):
        fields = {name: values[row] if values else "" for name, values in columns.items()}
        lists = {name: value.replace(LIST_SEPARATOR, ",") for name, value in fields.items() if name in attributes}
        made[str(row)] = fields | lists | {"categories": fields["categories"].replace(LIST_SEPARATOR, ",")}
    return made


def _write_table(path: Path, catalogue: Catalogue, titles: list[str], tokens: list[str], rows: Iterable[Row]) -> None:
    """A table as MiniOneRec's loaders read it: lists as Python writes them."""
    with open(path, "w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(_MINIONEREC)
        for user, before, target in rows:
            named = [titles[item] for item in before], titles[target]
            coded = [tokens[item] for item in before], tokens[target]
            writer.writerow([catalogue.user_ids[user], *named, before, target, *coded])


def _index(codes: Codes) -> dict[str, list[str]]:
    return {str(row): tokens for row, tokens in enumerate(index_tokens(codes.codes))}


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")


def _write_map(path: Path, ids: Sequence[str]) -> None:
    path.write_text("".join(f"{name}\t{row}\n" for row, name in enumerate(ids)), encoding="utf-8")
