"""What a plugin's source gives, held against what `prepare` needs: wrong rows would become wrong numbers."""

from __future__ import annotations

import numpy as np

from bbqrec_cli.data.sources.base import Interactions, Items
from bbqrec_cli.data.sources.files import as_id
from bbqrec_cli.errors import DataError


def check_interactions(made: Interactions, source: str, *, divided: bool) -> None:
    """Raises: DataError: interactions that are not as `Interactions` says.

    source: of whom the message speaks; divided: whether it says that its interactions have parts.
    """
    if divided != (made.parts is not None):
        what = "gives parts, but divided is not True" if made.parts is not None else "is divided, but gives no parts"
        raise DataError(f"{source} {what}", "divided = True in the class, if its interactions have parts")
    wrong = (
        _of_ids("user", made.user_ids)
        or _of_ids("item", made.item_ids)
        or _of_rows("users", made.users, len(made.user_ids), len(made.users))
        or _of_rows("items", made.items, len(made.item_ids), len(made.users))
        or _of_order(made)
    )
    if wrong:
        hint = "`by_user` of bbqrec_cli.data.sources.base sorts and numbers what lists of ids say"
        raise DataError(f"{source} gives {wrong}", hint)


def _of_ids(what: str, ids: list[str]) -> str:
    seen = set[str]()
    for name in ids:
        if not isinstance(name, str) or not name.strip():
            return f"the {what} id {name!r}, which is no text"
        if name != as_id(name):
            return f"the {what} id {name!r}, with spaces around it or several inside"
        if name in seen:
            return f"the {what} id {name!r} twice"
        seen.add(name)
    return "" if ids else f"no {what}s"


def _of_rows(what: str, rows: np.ndarray, count: int, needed: int) -> str:
    if not isinstance(rows, np.ndarray) or rows.ndim != 1 or not np.issubdtype(rows.dtype, np.integer):
        return f"{what} that are no array of integers, (n,)"
    if len(rows) != needed:
        return f"{len(rows)} {what}; {needed} are needed, one per interaction"
    if len(rows) and (rows.min() < 0 or rows.max() >= count):
        return f"{what} that are no rows of the {count} ids"
    if len(np.unique(rows)) < count:
        return f"ids of {what} without an interaction"
    return ""


def _of_order(made: Interactions) -> str:
    steps = np.diff(made.users.astype(np.int64))
    if (steps < 0).any():
        return "interactions that are not sorted by user"
    for name in ("timestamps", "moments", "parts"):
        values, kind = getattr(made, name), "times" if name == "timestamps" else name
        if values is None:
            continue
        if not isinstance(values, np.ndarray) or not np.issubdtype(values.dtype, np.integer):
            return f"{kind} that are no array of integers"
        if name == "parts" and len(values) and (values.min() < 0 or values.max() > 2):
            return "parts that are none of 0, 1 and 2: training, validation, test"
        if values.shape != made.users.shape:
            return f"{kind} of the shape {values.shape}; {made.users.shape} is needed"
        # With parts, times ascend within each alone.
        if (name == "parts" or made.parts is None) and (np.diff(values.astype(np.int64))[steps == 0] < 0).any():
            return f"interactions of a user whose {kind} do not ascend"
    return ""


def check_items(found: Items, items: int, source: str) -> None:
    """Raises: DataError: not one field, picture or row of features per item."""
    counts = {f"the field {name!r}": len(values) for name, values in found.fields.items()}
    counts |= {f"the features {name!r}": len(each.values) for name, each in found.features.items()}
    if len(found.images):
        counts["images"] = len(found.images)
    for what, count in counts.items():
        if count != items:
            raise DataError(f"{source} gives {what} for {count:,} items; {items:,} are asked", "keep their order")
    for name, values in found.fields.items():
        for value in values:
            if not isinstance(value, str):
                raise DataError(f"{source} gives the field {name!r} with {value!r}, which is no text", "'' is none")
