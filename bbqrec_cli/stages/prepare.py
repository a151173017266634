"""prepare: raw data -> a dataset file. I items, n interactions."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from bbqrec_cli.config import StageConfig, option, stored
from bbqrec_cli.data.sources.registry import SOURCES, fetched, open_source, source_options
from bbqrec_cli.errors import DataError, UsageError
from bbqrec_cli.outputs import one_at_a_time
from bbqrec_cli.progress import SILENT, Progress
from bbqrec_cli.registry import Registry

if TYPE_CHECKING:
    from bbqrec_cli.data.sources.base import Interactions, Items, Source
    from bbqrec_cli.data.splits import Split
    from bbqrec_cli.records import Catalogue, Dataset, Sequences, Splitting


@dataclass(frozen=True, kw_only=True)
class PrepareConfig(StageConfig):
    """Options of `bbqrec prepare`; those of the source are in `options`."""

    without: ClassVar[frozenset[str]] = frozenset({"device", "threads"})
    registry: ClassVar[Registry] = SOURCES
    choice: ClassVar[str] = "source"

    source: str = option(help="Format of the raw data.", positional=True, complete="sources")
    paths: tuple[str, ...] = option((), "The source's folder or files.", role="input", positional=True)
    output: Path = option(Path("dataset.h5"), "Dataset file to write.", role="output", short="-o", complete=".h5")
    text_fields: tuple[str, ...] = option(
        (), "Fields that make an item's text, such as title,description. [default: all known ones]"
    )
    min_user_interactions: int | None = option(
        None,
        "Leave out users with fewer interactions, until all users and items have enough (k-core). "
        "[default: 5 for amazon's unfiltered reviews]",
        minimum=0,
    )
    min_item_interactions: int | None = option(
        None, "Leave out items with fewer interactions. [default: 5 for amazon's unfiltered reviews]", minimum=0
    )
    since: str | None = option(None, "Leave out interactions before this date, such as 2019-01-01 (UTC).")
    until: str | None = option(None, "Leave out interactions after this date (the day itself is kept).")
    split: str | None = option(
        None, "Division into training, validation and test: the last two items of each user (last), two points in time "
        "for all users (time), or as the data say (given). [default: last; given with --split-column]",
        choices=("last", "time", "given"),
    )  # fmt: skip
    quantiles: tuple[float, ...] = option(
        (0.8, 0.9), "Shares of the interactions before validation and before test, of --split time.", minimum=0,
        maximum=1,
    )  # fmt: skip
    options: dict = option({})

    def __post_init__(self) -> None:
        if self.split != "time" and self.quantiles != PrepareConfig.quantiles:
            raise UsageError("--quantiles has no effect without --split time", "add it, or leave --quantiles out")
        if len(self.quantiles) != 2 or not 0 < self.quantiles[0] < self.quantiles[1] < 1:
            said = ",".join(map(str, self.quantiles))
            raise UsageError(
                f"--quantiles is {said!r}; two rising numbers between 0 and 1 are needed", "--quantiles .8,.9"
            )


@dataclass(frozen=True, kw_only=True)
class PrepareResult:
    """What `bbqrec prepare --json` prints.

    texts, images: items that have one (a precomputed image feature counts as a picture); sparsity: the share of the
    pairs of a user and an item that have no interaction; duplicates: kept interactions that repeat user, item and time;
    left_out: why -> interactions of the raw data that are not in the file; text_fields: the fields that make the texts;
    fields: name -> items that have the field; evaluated_users: those with a test target; ties: test and validation ->
    targets for which another item has the same time, none where the data gave the split; split: see `split_counts`.
    """

    output: Path
    users: int
    items: int
    interactions: int
    texts: int
    images: int
    average_length: float
    sparsity: float
    duplicates: int
    left_out: dict[str, int]
    text_fields: tuple[str, ...]
    fields: dict[str, int]
    evaluated_users: int
    ties: dict[str, int]
    split: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        """The keys that docs/scripting.md names."""
        return dataclasses.asdict(self) | {"output": str(self.output), "text_fields": list(self.text_fields)}


@one_at_a_time
def run(config: PrepareConfig, progress: Progress = SILENT, source: Source | None = None) -> PrepareResult:
    """Read the source, filter, compose texts, check pictures, write.

    source: one that is open already; None: the one that `config` names.

    Raises:
        UsageError, DataError, MissingFileError, LackingError and the errors of writing files.
    """
    from bbqrec_cli.data.fields import choose_text_fields, with_known_names
    from bbqrec_cli.data.sources.base import in_drawn_order, without_duplicates
    from bbqrec_cli.data.sources.checks import check_interactions, check_items
    from bbqrec_cli.data.sources.exported import files_of_order, in_exported_order
    from bbqrec_cli.data.sources.period import between, days
    from bbqrec_cli.data.sources.pictures import PictureFiles
    from bbqrec_cli.data.splits import split_of
    from bbqrec_cli.hdf5 import folder_of, write_dataset
    from bbqrec_cli.outputs import check_output

    options = source_options(config.source, config.options)
    first, last = days(config.since, config.until)
    if getattr(options, "download", ""):  # it may take hours
        check_output(config.output, force=config.force)
    paths: list[Path] = []
    if source is None:
        paths = fetched(config.source, [Path(path) for path in config.paths], options, progress)
        source = open_source(config.source, paths, options, seed=config.seed, progress=progress)
    kind = split_kind(config, source)
    check_output(config.output, force=config.force, inputs=source.files)
    given = config.min_user_interactions, config.min_item_interactions
    min_user, min_item = (source.minimum if each is None else each for each in given)
    of_plugin = SOURCES.recorded(config.source)
    interactions = source.interactions()
    if of_plugin:
        divided_there = getattr(source, "divided", False)
        check_interactions(interactions, f"the source {config.source!r}", divided=divided_there)
    interactions = between(interactions, first, last, progress)
    # Of those that are left: what came before or after does not decide which of them stays.
    interactions = without_duplicates(interactions, getattr(options, "duplicates", "keep"), progress)
    interactions = filtered(interactions, min_user=min_user, min_item=min_item, progress=progress)
    if order := files_of_order(paths):
        interactions = in_exported_order(interactions, order)
    elif not getattr(source, "own_order", False):
        interactions = in_drawn_order(interactions)
    sequences, splitting = divided(interactions, kind, config.quantiles)
    split = split_of(sequences, history=1)
    if kind == "given":
        check_parts(split)
    items = source.items(interactions.item_ids)
    if of_plugin:
        check_items(items, len(interactions.item_ids), f"the source {config.source!r}")
    items = dataclasses.replace(items, fields=with_known_names(items.fields))
    text_fields = choose_text_fields(items.fields, config.text_fields, progress)
    dataset = to_dataset(interactions, items, text_fields, progress, sequences=sequences, splitting=splitting)
    result = counts(config.output, interactions, items, dataset, split, text_fields)
    say_lacks(result, progress)
    said = result.to_json()
    came_to = {"text_fields": said["text_fields"], "split": kind}
    came_to |= {"min_user_interactions": min_user, "min_item_interactions": min_item}
    record = stored(config) | {"options": stored(options)} | came_to
    record["chosen"] = [name for name in came_to if getattr(config, name) in (None, ())]
    record |= of_plugin | getattr(source, "about", {})
    record["counts"] = {key: value for key, value in said.items() if key not in ("output", "text_fields", "split")}
    order = [each for each in order if each not in source.files]
    parents = [*source.files, *order, *folder_of(items.images.files if isinstance(items.images, PictureFiles) else [])]
    write_dataset(config.output, dataset, config=record, parents=parents, force=config.force)
    return result


def split_kind(config: PrepareConfig, source: Source) -> str:
    """The kind of split. A source whose files are the parts, as --split given says, is told so.

    Raises:
        UsageError: --split contradicts the source.
    """
    divided = getattr(source, "divided", False)
    if config.split == "given" and not divided:
        divide = getattr(source, "divide", None)
        if divide is None:
            raise UsageError(
                f"--split given: nothing in the source {config.source} names the parts",
                "table FILE --split-column NAME, or table TRAIN.csv VALID.csv TEST.csv",
            )
        divide()
    if divided and config.split not in (None, "given"):
        raise UsageError(f"--split {config.split}: the data are split already", "--split given")
    return config.split or ("given" if divided else "last")


def divided(interactions: Interactions, kind: str, quantiles: tuple[float, ...]) -> tuple[Sequences, Splitting]:
    """The sequences with their parts, and what the split is called.

    Raises:
        DataError: the data have no times to split by, or a part of theirs is empty.
    """
    import numpy as np

    from bbqrec_cli.data.splits import split_by_time
    from bbqrec_cli.records import LAST, Sequences, Splitting

    lengths = np.bincount(interactions.users, minlength=len(interactions.user_ids))
    sequences = Sequences(
        indptr=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        items=interactions.items.astype(np.int32),
        timestamps=interactions.timestamps,
    )
    if kind == "last":
        return sequences, LAST
    if kind == "time":
        parts, splitting = split_by_time(sequences, quantiles)
        return dataclasses.replace(sequences, parts=parts), splitting
    return dataclasses.replace(sequences, parts=interactions.parts), Splitting(kind="given")


def check_parts(split: Split) -> None:
    """Raises: DataError: a part of a split that the data name is empty."""
    for name in ("validation", "test"):
        if not len(getattr(split, name).users):
            hint = "training chooses its epoch on validation targets: mark some rows so, of users with other rows"
            raise DataError(f"--split given: no {name} row has a row of its user before it", hint)
    if not len(split.train.items):
        raise DataError("--split given: no row is of the training part")


def filtered(interactions: Interactions, *, min_user: int, min_item: int, progress: Progress) -> Interactions:
    """The interactions of the k-core: users and items with enough interactions.

    Raises:
        DataError: nothing is left.
    """
    from bbqrec_cli.data.kcore import k_core

    if max(min_user, min_item) <= 1:
        return interactions
    keep = k_core(interactions.users, interactions.items, min_user=min_user, min_item=min_item)
    asked = f"at least {min_user} interactions per user and {min_item} per item"
    if not keep.any():
        raise DataError(f"{asked}: nothing is left", "lower --min-user-interactions and --min-item-interactions")
    made = interactions.kept(keep, "k_core")
    left = (
        len(interactions.user_ids) - len(made.user_ids),
        len(interactions.item_ids) - len(made.item_ids),
        len(keep) - int(keep.sum()),
    )
    progress.log(f"{asked}: {left[0]:,} users, {left[1]:,} items and {left[2]:,} interactions are left out")
    return made


def to_dataset(
    interactions: Interactions, items: Items, text_fields: tuple[str, ...], progress: Progress, *, sequences: Sequences,
    splitting: Splitting,
) -> Dataset:  # fmt: skip
    """The record to write; its texts are made from the fields `text_fields`.

    Raises:
        DataError: names of fields or features that the file cannot hold.
    """
    from bbqrec_cli.data.fields import attributes, check_names, compose_texts, titles_of
    from bbqrec_cli.data.sources.vectors import stored_features
    from bbqrec_cli.records import Catalogue, Dataset, Vocabulary

    check_names(items)
    titles = titles_of(items.fields, len(interactions.item_ids))
    catalogue = Catalogue(
        user_ids=Vocabulary(interactions.user_ids),
        item_ids=Vocabulary(interactions.item_ids),
        titles=titles,
        sequences=sequences,
        attributes=attributes(items),
        splitting=splitting,
    )
    return Dataset(
        catalogue=catalogue,
        texts=compose_texts(items.fields, text_fields, len(titles)),
        images=checked_pictures(items.images or [b""] * len(titles), interactions.item_ids, progress),
        features=stored_features(items.features),
    )


def checked_pictures(pictures: Sequence[bytes], item_ids: list[str], progress: Progress) -> Sequence[bytes]:
    """The pictures; those that cannot be decoded become missing, with a warning that names the first few."""
    from bbqrec_cli.data.sources.pictures import PictureFiles
    from bbqrec_cli.encoders.image import decode

    # A JPEG is decoded at an eighth of its size, which finds truncation as well.
    bad = [row for row, blob in enumerate(pictures) if blob and decode(blob, size=32) is None]
    if bad:
        first = ", ".join(item_ids[row] for row in bad[:3])
        progress.warn(f"{len(bad):,} pictures cannot be read and count as missing; the first are of the items {first}")
    unreadable = set(bad)
    if isinstance(pictures, PictureFiles):
        return pictures.without(unreadable)
    return [b"" if row in unreadable else blob for row, blob in enumerate(pictures)]


def say_lacks(result: PrepareResult, progress: Progress) -> None:
    """Warn of what a reader of the counts would overlook."""
    from bbqrec_cli.data.splits import EVALUATED

    for what, having in (("text", result.texts), ("picture", result.images)):
        if 0 < having < result.items:
            progress.warn(f"{result.items - having:,} of {result.items:,} items have no {what}")
    if not result.texts and not result.images:
        progress.log("no item has a text or a picture: only what needs no features can use this file")
    if result.split["kind"] != "last":
        say_split(result, progress)
    elif left := result.users - result.evaluated_users:
        what = f"{left:,} of {result.users:,} users have fewer than {EVALUATED} interactions and are not evaluated"
        progress.warn(f"{what}; --min-user-interactions {EVALUATED} leaves them out")
    if any(result.ties.values()):
        shares = {split: tied / max(1, result.split["targets"][split]) for split, tied in result.ties.items()}
        decides = "which is the target" if result.split["kind"] == "last" else "which of them come before the target"
        progress.warn(
            f"{shares['test']:.1%} of the test targets and {shares['validation']:.1%} of the validation targets hang "
            f"on a tie: another item has the same time, and --ties (file, item or random) decides {decides}"
        )


def say_split(result: PrepareResult, progress: Progress) -> None:
    """What a split by time or of the data leaves for training and evaluation."""
    about = result.split
    parts = "; ".join(f"{name} {about['interactions'][name]:,}" for name in about["interactions"])
    progress.log(f"the split is {about['name']}; interactions: {parts}")
    targets = ", ".join(f"{about['targets'][name]:,} for {name}" for name in about["targets"])
    progress.log(f"targets, each with all of its user's interactions before it as history: {targets}")
    if without := about["targets_without_history"]:
        progress.warn(f"{without:,} held-out interactions are the first of their user: no history, no target")
    if untrained := about["untrained_users"]:
        progress.warn(f"{untrained:,} of {result.users:,} users have no interaction in the training part")
    if cold := about["cold_items"]:
        progress.warn(f"{cold:,} of {result.items:,} items have no interaction in the training part (cold items)")


def split_counts(catalogue: Catalogue, split: Split) -> dict[str, Any]:
    """What the split leaves for training and evaluation.

    'kind', 'name' (in words), 'quantiles', 'cuts' (see `records.Splitting`); 'interactions' of each part; 'targets' for
    validation and test; 'targets_without_history': held-out interactions that are their user's first;
    'untrained_users', 'cold_items': those without training interactions.
    """
    import numpy as np

    from bbqrec_cli.data.splits import last_parts
    from bbqrec_cli.records import PARTS

    sequences = catalogue.sequences
    parts = last_parts(sequences) if sequences.parts is None else sequences.parts
    targets = {name: len(getattr(split, name).users) for name in PARTS[1:]}
    interactions = dict(zip(PARTS, np.bincount(parts, minlength=len(PARTS)).tolist(), strict=True))
    return dataclasses.asdict(catalogue.splitting) | {
        "name": str(catalogue.splitting), "interactions": interactions, "targets": targets,
        "targets_without_history": sum(interactions[name] - targets[name] for name in targets),
        "untrained_users": int((split.train.lengths == 0).sum()),
        "cold_items": catalogue.items - int(np.count_nonzero(np.bincount(split.train.items))),
    }  # fmt: skip


def counts(
    output: Path, interactions: Interactions, items: Items, dataset: Dataset, split: Split,
    text_fields: tuple[str, ...],
) -> PrepareResult:  # fmt: skip
    """The counts of the result."""
    import numpy as np

    from bbqrec_cli.data.sources.base import repeated
    from bbqrec_cli.data.sources.pictures import PictureFiles
    from bbqrec_cli.data.splits import tied_targets

    catalogue = dataset.catalogue
    moments = interactions.moments if catalogue.splitting.kind in ("last", "time") else None
    images = dataset.images
    pictured = np.array(images.present if isinstance(images, PictureFiles) else [bool(blob) for blob in images])
    if "image" in dataset.features:
        pictured |= dataset.features["image"].present
    pairs = interactions.users.astype(np.int64) * catalogue.items + interactions.items
    pairs.sort()  # many times as fast as np.unique
    different = int(np.count_nonzero(np.diff(pairs))) + bool(len(pairs))
    return PrepareResult(
        output=output,
        users=catalogue.users,
        items=catalogue.items,
        interactions=len(catalogue.sequences.items),
        texts=sum(map(bool, dataset.texts)),
        images=int(pictured.sum()),
        average_length=round(len(catalogue.sequences.items) / max(1, catalogue.users), 2),
        sparsity=round(1 - different / max(1, catalogue.users * catalogue.items), 6),
        duplicates=int(repeated(interactions).sum()),
        left_out={why: count for why, count in interactions.left_out.items() if count},
        text_fields=text_fields,
        fields={name: sum(map(bool, values)) for name, values in items.fields.items()},
        evaluated_users=int(np.count_nonzero(np.bincount(split.test.users))),
        ties=tied_targets(interactions.items, moments, split),
        split=split_counts(catalogue, split),
    )
