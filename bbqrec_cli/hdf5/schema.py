"""The file kinds: which datasets each holds, of which type and shape. docs/file-formats.md says the same in prose.

A shape names its dimensions; the same name must mean the same number everywhere in one file. 'U+1' is one more than U,
'*' is free. `{name}` in a path stands for any one name (a modality, an attribute, a parameter).
"""

from __future__ import annotations

from dataclasses import dataclass

FORMAT = "bbqrec"
RESERVED_ATTRIBUTES = ("id", "title", "text", "image")
"""Names in items/ that are not attributes."""
TRIAL_TEXTS = ("system", "model", "status", "error", "finished")
TRIAL_NUMBERS = ("number", "epochs", "best_epoch")
TRIAL_OBJECTS = ("options", "tuned", "origin")
"""Names in trials/, the objects as JSON."""
TEXT_ATTRIBUTES = frozenset((
    "bbqrec_version", "created", "model", "method", "split", "stage", "label", "key", "status", "error", "traceback",
    "finished", "alike",
))  # fmt: skip
"""Root attributes that are read as they stand, not as JSON: a step may be called 1.10."""


@dataclass(frozen=True)
class Field:
    """A dataset: HDF5 path, type ('str', 'bytes', a dtype's name or '*'), dimension names, whether it is required."""

    path: str
    type: str
    shape: tuple[str, ...]
    required: bool = True


@dataclass(frozen=True)
class Kind:
    """A file kind: its schema version, the command that makes it, its datasets and its root attributes."""

    version: int
    made_by: str
    fields: tuple[Field, ...]
    attributes: tuple[str, ...] = ()


_CATALOGUE = (
    Field("users/id", "str", ("U",)),
    Field("items/id", "str", ("I",)),
    Field("items/title", "str", ("I",)),
    Field("items/{attribute}", "str", ("I",), required=False),
    Field("sequences/indptr", "int64", ("U+1",)),
    Field("sequences/items", "int32", ("E",)),
    Field("sequences/timestamps", "int64", ("E",), required=False),
    Field("sequences/part", "uint8", ("E",), required=False),
)
_FEATURES = (
    Field("features/{modality}/values", "float32", ("I", "*"), required=False),
    Field("features/{modality}/present", "bool", ("I",), required=False),
)


def _codes(required: bool) -> tuple[Field, ...]:
    return (
        Field("codes", "uint16", ("I", "L", "M"), required=required),
        Field("codebooks", "float32", ("*", "*", "*", "D"), required=False),
        Field("item_vectors", "float32", ("I", "*"), required=False),
        Field("present", "bool", ("I", "M"), required=False),
        Field("token_of_item", "int64", ("I",), required=required),
        Field("collision", "int64", ("I",), required=required),
    )


_RECORD = (
    "stage", "label", "key", "inputs", "status", "error", "traceback", "seconds", "at_least", "origin", "process",
    "finished", "figures",
)  # fmt: skip

KINDS: dict[str, Kind] = {
    "dataset": Kind(
        2,
        "bbqrec prepare",
        (Field("items/text", "str", ("I",)), Field("items/image", "bytes", ("I",)), *_CATALOGUE, *_FEATURES),
    ),
    "features": Kind(
        2,
        "bbqrec embed",
        (
            *_CATALOGUE,
            *_FEATURES,
            Field("features/{modality}/content", "uint64", ("I", "*"), required=False),
            Field("features/{modality}/mean", "float32", ("*",), required=False),
            Field("features/{modality}/matrix", "float32", ("*", "*"), required=False),
        ),
    ),
    "tokens": Kind(
        3,
        "bbqrec tokenize",
        (*_CATALOGUE, *_codes(required=True), Field("encoder/{parameter}", "*", ("...",), required=False)),
        ("method", "levels", "codebook_size", "modalities", "history"),
    ),
    "model": Kind(
        4,
        "bbqrec train",
        (
            *_CATALOGUE,
            *_codes(required=False),
            *_FEATURES,
            Field("weights/{parameter}", "*", ("...",), required=False),
            Field("earlier/interactions", "uint64", ("*",), required=False),
        ),
        ("model", "settings", "history"),
    ),
    "metrics": Kind(
        4,
        "bbqrec evaluate",
        (
            Field("users/id", "str", ("U",)),
            Field("rank", "int64", ("U",)),
            Field("cold", "bool", ("U",), required=False),
            Field("history_length", "int64", ("U",), required=False),
            Field("target_interactions", "int64", ("U",), required=False),
            Field("target", "str", ("U",), required=False),
            Field("recall/{k}", "float32", ("U",)),
            Field("ndcg/{k}", "float32", ("U",)),
        ),
        ("model", "split", "aggregates", "confidence"),
    ),
    "checkpoint": Kind(1, "an interrupted stage", (Field("state/{name}", "*", ("...",), required=False),), ("meta",)),
    "record": Kind(1, "bbqrec benchmark", (), _RECORD),
    "benchmark": Kind(
        2,
        "bbqrec benchmark",
        (
            Field("data/{name}/users", "str", ("*",), required=False),
            Field("data/{name}/cells/{cell}", "int64", ("*",), required=False),
        ),
        ("steps", "results"),
    ),
    "tuning": Kind(
        1,
        "bbqrec tune",
        (
            *(Field(f"trials/{name}", "str", ("T",)) for name in (*TRIAL_TEXTS, *TRIAL_OBJECTS)),
            *(Field(f"trials/{name}", "int64", ("T",)) for name in TRIAL_NUMBERS),
            Field("trials/seconds", "float64", ("T",)),
            Field("trials/figures/{metric}", "float64", ("T",), required=False),
        ),
        ("systems", "budget"),
    ),
}


def field_of(kind: Kind, path: str) -> Field | None:
    """The field of `path`, or None if the schema does not know it (readers ignore it)."""
    parts = path.split("/")
    for f in kind.fields:
        pattern = f.path.split("/")
        if len(pattern) == len(parts) and all(p.startswith("{") or p == q for p, q in zip(pattern, parts, strict=True)):
            return f
    return None
