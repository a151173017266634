"""prepare: raw data -> a dataset file. I items, n interactions."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bbqrec_cli.config import StageConfig, nearest, option, stored
from bbqrec_cli.errors import DataError, UsageError
from bbqrec_cli.progress import SILENT, Progress

if TYPE_CHECKING:
    from bbqrec_cli.data.sources.base import Interactions, Items
    from bbqrec_cli.records import Dataset

TEXT_FIELDS = ("title", "name", "brand", "maker", "category", "categories", "genres", "tags", "text", "description")
"""What makes an item's text where --text-fields does not say; the long ones last, since encoders cut long texts."""
NO_ATTRIBUTES = ("title", "text", "description")
"""Fields that go into the title and the text only; attributes travel along to the model file and are short."""


@dataclass(frozen=True, kw_only=True)
class PrepareConfig(StageConfig):
    """Options of `bbqrec prepare`."""

    source: str = option(help="demo, s3rec, table or amazon.", positional=True)
    paths: tuple[str, ...] = option((), "The source's folder or files.", positional=True)
    output: Path = option(Path("dataset.h5"), "Dataset file to write.", short="-o", stored=False)
    items: Path | None = option(None, "Items file: CSV, TSV, JSON lines, or a JSON object of id to fields.")
    images: Path | None = option(None, "Folder of pictures named by item id.")
    text_fields: tuple[str, ...] = option(
        (), "Fields that make the text, as title,description. [default: all known ones]"
    )
    min_user_interactions: int | None = option(
        None,
        "Leave out users with fewer, again until all have them. [default: 5 for amazon's unfiltered reviews]",
        minimum=0,
    )
    min_item_interactions: int | None = option(None, "The same for items.", minimum=0)
    user_column: str = option("user", "Column of the user's id (table).")
    item_column: str = option("item", "Column of the item's id (table).")
    time_column: str = option("timestamp", "Column of the time, seconds since 1970 (table).")
    rating_column: str = option("rating", "Column of the rating (table).")
    min_rating: float | None = option(None, "Leave out lower ratings (table).")
    size: str = option("full", "Size of the demo.", choices=("full", "small"))


@dataclass(frozen=True, kw_only=True)
class PrepareResult:
    """What `bbqrec prepare --json` prints.

    texts, images: items that have one (a ready image feature counts as a picture); fields: items that have each field.
    """

    output: Path
    users: int
    items: int
    interactions: int
    texts: int
    images: int
    average_length: float
    fields: dict[str, int]

    def to_json(self) -> dict[str, Any]:
        """The contract's keys."""
        return dataclasses.asdict(self) | {"output": str(self.output)}


def run(config: PrepareConfig, progress: Progress = SILENT) -> PrepareResult:
    """Read the source, filter, compose texts, check pictures, write.

    Raises:
        UsageError, DataError, MissingFileError and the errors of writing files.
    """
    from bbqrec_cli.data.sources.base import Options
    from bbqrec_cli.data.sources.registry import open_source
    from bbqrec_cli.hdf5 import check_output, write_dataset

    check_output(config.output, force=config.force)
    options = Options(**{f.name: getattr(config, f.name) for f in dataclasses.fields(Options)})
    source = open_source(config.source, [Path(path) for path in config.paths], options, progress)
    given = config.min_user_interactions, config.min_item_interactions
    min_user, min_item = (source.minimum if each is None else each for each in given)
    interactions = filtered(source.interactions(), min_user=min_user, min_item=min_item, progress=progress)
    items = source.items(interactions.item_ids)
    dataset = to_dataset(interactions, items, config.text_fields, progress)
    result = counts(config.output, items, dataset)
    record = stored(config) | {"min_user_interactions": min_user, "min_item_interactions": min_item}
    record["counts"] = {key: value for key, value in result.to_json().items() if key != "output"}
    write_dataset(config.output, dataset, config=record, parents=source.files, force=config.force)
    return result


def filtered(interactions: Interactions, *, min_user: int, min_item: int, progress: Progress) -> Interactions:
    """Only users and items with as many interactions as asked for.

    Raises:
        DataError: nothing is left.
    """
    import numpy as np

    from bbqrec_cli.data.kcore import core

    if max(min_user, min_item) <= 1:
        return interactions
    keep = core(interactions.users, interactions.items, min_user=min_user, min_item=min_item)
    asked = f"at least {min_user} interactions a user and {min_item} an item"
    if not keep.any():
        raise DataError(f"{asked}: nothing is left", "lower --min-user-interactions and --min-item-interactions")
    users, user_rows = np.unique(interactions.users[keep], return_inverse=True)
    items, item_rows = np.unique(interactions.items[keep], return_inverse=True)
    progress.log(
        f"{asked}: {len(interactions.user_ids) - len(users):,} users, {len(interactions.item_ids) - len(items):,} items and "
        f"{len(keep) - int(keep.sum()):,} interactions are left out"
    )
    return dataclasses.replace(
        interactions, user_ids=[interactions.user_ids[u] for u in users],
        item_ids=[interactions.item_ids[i] for i in items], users=user_rows, items=item_rows,
        timestamps=None if interactions.timestamps is None else interactions.timestamps[keep],
    )  # fmt: skip


def to_dataset(interactions: Interactions, items: Items, text_fields: tuple[str, ...], progress: Progress) -> Dataset:
    """The record that is written.

    Raises:
        UsageError: a text field that no item has.
    """
    import numpy as np

    from bbqrec_cli.records import Catalogue, Dataset, Sequences

    lengths = np.bincount(interactions.users, minlength=len(interactions.user_ids))
    sequences = Sequences(
        indptr=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        items=interactions.items.astype(np.int32),
        timestamps=interactions.timestamps,
    )
    titles = items.fields.get("title") or items.fields.get("name") or [""] * len(interactions.item_ids)
    catalogue = Catalogue(
        user_ids=interactions.user_ids,
        item_ids=interactions.item_ids,
        titles=titles,
        sequences=sequences,
        attributes=attributes(items),
    )
    return Dataset(
        catalogue=catalogue,
        texts=compose_texts(items.fields, text_fields, len(interactions.item_ids), progress),
        images=checked_pictures(items.images or [b""] * len(titles), interactions.item_ids, progress),
        features=items.features,
    )


def attributes(items: Items) -> dict[str, list[str]]:
    """The short fields; a name that the file keeps for something else gets '_' after it."""
    from bbqrec_cli.hdf5.schema import RESERVED_ATTRIBUTES

    taken = {name: values for name, values in items.fields.items() if name not in NO_ATTRIBUTES}
    return {f"{name}_" if name in RESERVED_ATTRIBUTES else name: values for name, values in taken.items()}


def compose_texts(
    fields: dict[str, list[str]], text_fields: tuple[str, ...], count: int, progress: Progress
) -> list[str]:
    """What is embedded: each item's fields one after the other, '' where it has none of them. (I,)

    Raises:
        UsageError: a field that no item has.
    """
    from bbqrec_cli.records import LIST_SEPARATOR

    for name in text_fields:
        if name not in fields:
            known = ", ".join(fields) or "no fields"
            raise UsageError(f"--text-fields names {name!r}{nearest(name, fields)}; the items have {known}")
    chosen = text_fields or tuple(name for name in TEXT_FIELDS if name in fields)
    if fields and not chosen:
        progress.warn(f"no texts: --text-fields can make them of {', '.join(fields)}")
    if not chosen:
        return [""] * count
    parts = [[value.replace(LIST_SEPARATOR, ", ") for value in fields[name]] for name in chosen]
    return [". ".join(filter(None, each)) for each in zip(*parts, strict=True)]


def checked_pictures(pictures: list[bytes], item_ids: list[str], progress: Progress) -> list[bytes]:
    """The pictures; bytes that are none count as missing, with a warning that names the first."""
    checked = [blob if blob and is_picture(blob) else b"" for blob in pictures]
    bad = [row for row, blob in enumerate(pictures) if blob and not checked[row]]
    if bad:
        progress.warn(
            f"{len(bad):,} pictures cannot be read and count as missing, the first that of item {item_ids[bad[0]]}"
        )
    return checked


def is_picture(blob: bytes) -> bool:
    """Whether Pillow can decode it to the end."""
    import io

    from PIL import Image

    try:
        with Image.open(io.BytesIO(blob)) as picture:
            picture.draft("L", (32, 32))  # a JPEG is decoded at an eighth of its size, which finds truncation as well
            picture.load()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return False
    return True


def counts(output: Path, items: Items, dataset: Dataset) -> PrepareResult:
    """What there is."""
    import numpy as np

    catalogue = dataset.catalogue
    pictured = np.array([bool(blob) for blob in dataset.images])
    if "image" in dataset.features:
        pictured |= dataset.features["image"].present
    return PrepareResult(
        output=output,
        users=catalogue.users,
        items=catalogue.items,
        interactions=len(catalogue.sequences.items),
        texts=sum(map(bool, dataset.texts)),
        images=int(pictured.sum()),
        average_length=round(len(catalogue.sequences.items) / max(1, catalogue.users), 2),
        fields={name: sum(map(bool, values)) for name, values in items.fields.items()},
    )
