"""collisions: which items share a semantic ID and why, how codes are used, what semantic IDs keep of the features."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from bbqrec_cli.config import StageConfig, option
from bbqrec_cli.errors import CollisionError, DataError, UsageError
from bbqrec_cli.frames import Framed
from bbqrec_cli.progress import SILENT, Progress

if TYPE_CHECKING:
    from bbqrec_cli.collisions.agreement import Agreement
    from bbqrec_cli.collisions.analysis import Analysis, Ids
    from bbqrec_cli.records import Features


@dataclass(frozen=True, kw_only=True)
class CollisionsConfig(StageConfig):
    """Options of `bbqrec collisions`."""

    without: ClassVar[frozenset[str]] = frozenset({"device"})

    input: tuple[Path, ...] = option(
        (Path("tokens.h5"),), "Tokens files, model files or published indices (.json). The first is shown in detail.",
        role="input", positional=True, complete=".h5",
    )  # fmt: skip
    max_collisions: int = option(-1, "Exit with status 3 if more items collide; -1: never.", minimum=-1)
    groups: int = option(10, "Largest groups (and closest pairs) to list.", minimum=0)
    features: tuple[Path, ...] = option(
        (), "Features file, to find duplicates and neighbours; with several inputs, one for all or one per input.",
        role="input", repeatable=True, complete=".h5",
    )  # fmt: skip
    near: float = option(
        0.0, "Count near-collisions: quantised vectors closer than this share of the typical distance; 0: off.",
        minimum=0,
    )  # fmt: skip
    neighbours: int = option(10, "Nearest neighbours per item to compare (with --features).", minimum=1)
    sample: int = option(20_000, "Items whose neighbours are searched, at most.", minimum=1)
    details: bool = option(False, "Show all tables, not the first one alone; a page has them, too.", role="runtime")
    report: Path | None = option(
        None, "Write a page: .html (self-contained, with plots), or the tables as .md, .tex or .csv.", role="output"
    )


@dataclass(frozen=True, kw_only=True)
class CollisionsResult(Framed):
    """What `bbqrec collisions --json` prints: the analyses of all files, and how they agree; in a frame, the groups.

    agreement: for every two inputs with the same items, their positions and how far their IDs agree.
    """

    first: Analysis
    others: list[Analysis]
    agreement: list[tuple[int, int, Agreement]]
    report: Path | None

    @property
    def every(self) -> list[Analysis]:
        """The analyses in the order of the inputs."""
        return [self.first, *self.others]

    @property
    def pairs(self) -> list[tuple[str, str, Agreement]]:
        """`agreement` with the names of the inputs."""
        return [(self.every[one].input, self.every[other].input, each) for one, other, each in self.agreement]

    def to_json(self) -> dict[str, Any]:
        """The keys that docs/scripting.md names."""
        agreement = [{"first": a, "second": b} | dataclasses.asdict(each) for a, b, each in self.pairs]
        others = [each.to_json() for each in self.others]
        report = str(self.report) if self.report else None
        return self.first.to_json() | {"others": others, "agreement": agreement, "report": report}

    def columns(self) -> dict[str, list[Any]]:
        """One row per group of items that share an ID, as many as were asked for: input, code (levels × signals), size,
        items and titles (of the first 20), duplicates, victims, and cosine_NAME for each feature."""
        groups = [(each.input, group) for each in self.every for group in each.groups]
        features = dict.fromkeys(name for each in self.every for name in each.alike)
        found: dict[str, list[Any]] = {
            "input": [name for name, _ in groups],
            "code": [group.code for _, group in groups],
            "size": [group.size for _, group in groups],
            "items": [[item["id"] for item in group.items] for _, group in groups],
            "titles": [[item["title"] for item in group.items] for _, group in groups],
            "duplicates": [group.duplicates for _, group in groups],
            "victims": [group.victims for _, group in groups],
        }
        return found | {f"cosine_{name}": [group.cosine.get(name) for _, group in groups] for name in features}

    def check(self, limit: int) -> None:
        """Raises: CollisionError: more than `limit` items of an input collide (-1: no limit)."""
        for each in self.every:
            if 0 <= limit < each.colliding_items:
                raise CollisionError(
                    f"{each.input}: {each.colliding_items:,} items collide; --max-collisions allows {limit:,}",
                    "bbqrec tokenize --on-collision suffix; of items with content, fewer collide with more --levels or "
                    "a larger --codebook-size",
                )


def run(config: CollisionsConfig, progress: Progress = SILENT) -> CollisionsResult:
    """Analyse the semantic IDs of `config.input` and write the page.

    Raises:
        UsageError: a number of --features that is neither 1 nor that of the inputs.
        MissingFileError, BrokenFileError, WrongKindError, NewerVersionError, DataError: from reading the files.
        MissingPackageError: --near without faiss.
    """
    from bbqrec_cli.collisions.analysis import Settings, analyse
    from bbqrec_cli.collisions.inputs import agreements
    from bbqrec_cli.hdf5 import check_there
    from bbqrec_cli.pages.page import check_page

    for path in config.input:
        check_there(path, *([] if path.suffix.lower() == ".json" else ["tokens"]))
    for path in config.features:
        check_there(path, "features")
    if config.report:
        check_page(config.report, force=config.force)
    if len(config.features) not in (0, 1, len(config.input)):
        raise UsageError(
            f"{len(config.features)} --features for {len(config.input)} inputs", "give one for all, or one per input"
        )
    if config.near and config.threads:
        from bbqrec_cli.device import set_threads

        set_threads(config.threads)
    settings = Settings(
        groups=config.groups, near=config.near, neighbours=config.neighbours, sample=config.sample, seed=config.seed
    )
    every = read_all(config, progress)
    if config.near:
        check_vectors(every, progress)
    first, *others = [analyse(ids, settings, progress) for ids in every]
    result = CollisionsResult(first=first, others=others, agreement=agreements(every), report=config.report)
    if config.report:
        write_collisions_page(config, result)
    return result


def check_vectors(every: list[Ids], progress: Progress) -> None:
    """Raises: DataError: no input has the quantised vectors that --near needs."""
    lacking = [each for each in every if each.codes.item_vectors is None]
    said = [
        f"{each.label}: --near needs quantised vectors, which IDs by {each.codes.method} do not have"
        for each in lacking
    ]
    if len(lacking) == len(every):
        raise DataError(said[0], "leave --near out, or give the tokens file of a tokenizer with codebooks")
    for each in said:
        progress.warn(each)


def read_all(config: CollisionsConfig, progress: Progress) -> list[Ids]:
    """Every input with its features."""
    from bbqrec_cli.collisions.inputs import read_ids, with_features
    from bbqrec_cli.hdf5 import read_features

    given = [read_features(path) for path in config.features]
    of_each: list[Features | None] = [*(given * len(config.input) if len(given) == 1 else given)]
    of_each = of_each or [None] * len(config.input)
    found = []
    for number, (path, features) in enumerate(zip(config.input, of_each, strict=True)):
        ids = read_ids(path, progress)
        if features is not None:
            ids = with_features(ids, features, config.features[number % len(config.features)], progress)
        found.append(ids)
    return found


def write_collisions_page(config: CollisionsConfig, result: CollisionsResult) -> None:
    """The page of all inputs."""
    from bbqrec_cli.collisions.report import collisions_page
    from bbqrec_cli.hdf5 import sha256
    from bbqrec_cli.origin import command_line, commit, processor
    from bbqrec_cli.pages.page import with_plots, write_page

    assert config.report is not None
    origin = {"seed": config.seed, "commit": commit() or "not known", "processor": processor()}
    origin |= {f"SHA-256 of {path}": sha256(path) for path in (*config.input, *config.features)}
    page = collisions_page(
        result.every, result.pairs, command=command_line("collisions", config), origin=origin,
        plots=with_plots(config.report),
    )  # fmt: skip
    write_page(config.report, page, force=config.force)
