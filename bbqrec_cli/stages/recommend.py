"""recommend: a trained model and somebody's history -> the best items, with titles. I items, B users at once."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bbqrec_cli.config import StageConfig, nearest, option
from bbqrec_cli.errors import BBQRecError, DataError, MissingFileError, UsageError
from bbqrec_cli.progress import SILENT, Progress

if TYPE_CHECKING:
    import numpy as np
    import torch

    from bbqrec_cli.models.base import Recommender
    from bbqrec_cli.records import Catalogue

FIRST_USERS = 5


@dataclass(frozen=True, kw_only=True)
class RecommendConfig(StageConfig):
    """Options of `bbqrec recommend`."""

    model: Path = option(Path("model.h5"), "Model file.", positional=True)
    tokens: Path | None = option(
        None, "Grown tokens file (tokenize --append): its users, and its new items too, without training."
    )
    user: tuple[str, ...] = option((), "Id of a user of the file; repeat it, or separate by commas.", repeatable=True)
    users: int = option(0, "The first so many users of the file (5 where nobody is named).", minimum=0)
    history: tuple[str, ...] | None = option(
        None, "Ids of the items that somebody took, oldest first, separated by commas."
    )
    stdin: bool = option(
        False, 'Read JSON lines {"user": …, "history": [ids]} from stdin, answer each with one; the history of a user '
        "of the file may be left out."
    )  # fmt: skip
    top: int = option(10, "Items a user.", minimum=1)
    beam: int = option(50, "Beams of a generative model.", minimum=1)
    exclude_seen: bool = option(False, "Leave out what the user took before.")
    filter: tuple[str, ...] = option(
        (), "attribute=value: only items with it, in any case; repeated: all must hold.", repeatable=True
    )
    allow: Path | None = option(None, "File of item ids, one a line: only these are recommended.")
    batch_size: int = option(64, "Users at once; --stdin reads so many lines before it answers.", minimum=1)


@dataclass(frozen=True)
class Item:
    """An item as people know it; score: log-probability or logit, whatever the model ranks by."""

    id: str
    title: str
    score: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Recommendation:
    """user: '' for a typed history; history: all that counted, oldest first; items: best first."""

    user: str
    history: list[Item]
    items: list[Item]

    def to_json(self) -> dict[str, Any]:
        """The keys that docs/scripting.md names."""
        items = [{"id": item.id, "title": item.title, "score": item.score} for item in self.items]
        return {"user": self.user or None, "items": items, "history": [item.id for item in self.history]}


@dataclass(frozen=True, eq=False)
class Request:
    """Who asks, and the rows of all the items of this person, oldest first."""

    user: str
    rows: np.ndarray


def run(
    config: RecommendConfig, progress: Progress = SILENT, lines: Iterable[str | bytes] = ()
) -> Iterator[Recommendation]:
    """One recommendation after the other.

    Args:
        lines: with `config.stdin`, what is read.

    Raises:
        UsageError, DataError, LackingError and the errors of reading a model file.
    """
    from bbqrec_cli.device import resolve_device, set_threads
    from bbqrec_cli.hdf5 import read_model, read_tokens
    from bbqrec_cli.models.growth import with_tokens
    from bbqrec_cli.models.registry import load_model

    named = [name for name in ("user", "users", "history", "stdin") if getattr(config, name)]
    if config.history == ():
        raise UsageError("--history is empty", "give the ids of one item at least")
    if len(named) > 1:
        raise UsageError("--" + " and --".join(named) + " exclude each other", "ask for one of them")
    set_threads(config.threads)
    device = resolve_device(config.device)
    trained = read_model(config.model)
    if config.tokens is not None:
        trained = with_tokens(trained, read_tokens(config.tokens), where=str(config.tokens))
    book = Book(trained.catalogue)
    allowed = permitted(config, book)
    requests = from_lines(lines, book) if config.stdin else iter(from_options(config, book))
    model, enough = load_model(trained, device), True
    for batch in batches(requests, config.batch_size):
        for found in answer(
            model, batch, book, config, allowed=allowed, device=device, steps=trained.settings.get("history")
        ):
            if enough and len(found.items) < config.top:
                enough = False
                whom = f" for user {found.user}" if found.user else ""
                progress.warn(f"only {len(found.items)} items are left{whom}; --top asks for {config.top}")
            yield found


def batches(requests: Iterator[Request], size: int) -> Iterator[list[Request]]:
    """Lists of `size`. Where a request is bad, those before it come first, then its error."""
    waiting: list[Request] = []
    try:
        for request in requests:
            waiting.append(request)
            if len(waiting) == size:
                yield waiting
                waiting = []
    except BBQRecError:
        if waiting:
            yield waiting
        raise
    if waiting:
        yield waiting


class Book:
    """The catalogue, looked up by id."""

    def __init__(self, catalogue: Catalogue) -> None:
        self.catalogue = catalogue

    @cached_property
    def items(self) -> Mapping[str, int]:
        """Item id -> row."""
        return {name: row for row, name in enumerate(self.catalogue.item_ids)}

    @cached_property
    def users(self) -> Mapping[str, int]:
        """User id -> row."""
        return {name: row for row, name in enumerate(self.catalogue.user_ids)}

    def item(self, row: int, score: float = 0.0) -> Item:
        """What is shown of an item."""
        return Item(self.catalogue.item_ids[row], self.catalogue.titles[row], score)

    def rows(self, ids: Iterable[str], *, where: str, error: type[BBQRecError]) -> np.ndarray:
        """Rows of items. Raises: `error` for an unknown id, naming the nearest one."""
        import numpy as np

        found = []
        for name in ids:
            if name not in self.items:
                raise error(f"{where}: no item {name!r}{self._instead(name)}", "give ids of the catalogue")
            found.append(self.items[name])
        return np.array(found, dtype=np.int64)

    def _instead(self, name: str) -> str:
        """What an unknown item may have been meant as: somebody typed a title, or mistyped an id."""
        folded = name.casefold()
        titled = (row for row, title in enumerate(self.catalogue.titles) if title.casefold() == folded)
        row = next(titled, None)
        return nearest(name, self.items) if row is None else f" (the item of this title is {self.item(row).id!r})"

    def request(self, user: str, *, where: str, error: type[BBQRecError]) -> Request:
        """All that a user of the file took. Raises: `error` for an unknown user, or one without items."""
        if user not in self.users:
            raise error(f"{where}: no user {user!r}{nearest(user, self.users)}", "give ids of users of the model file")
        rows = self.catalogue.sequences[self.users[user]]
        if not len(rows):
            raise error(f"{where}: user {user!r} took nothing yet", "give a --history")
        return Request(user, rows.astype("int64"))


def from_options(config: RecommendConfig, book: Book) -> list[Request]:
    """Who is asked for on the command line; the first users of the file where nobody is."""
    if config.history:
        return [Request("", book.rows(config.history, where="--history", error=UsageError))]
    asked = [name for each in config.user for name in ([each] if each in book.users else each.split(","))]
    if not asked:
        lengths = book.catalogue.sequences.lengths
        with_items = (name for name, length in zip(book.catalogue.user_ids, lengths, strict=True) if length)
        asked = list(islice(with_items, config.users or FIRST_USERS))
    return [book.request(name, where="--user", error=UsageError) for name in asked]


def from_lines(lines: Iterable[str | bytes], book: Book) -> Iterator[Request]:
    """JSON lines; blank ones are skipped."""
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        where, form = f"stdin, line {number}", '{"user": "…", "history": ["id", …]}'
        try:
            found = json.loads(line)
        except (ValueError, RecursionError) as error:  # bytes that are not UTF-8 are a ValueError too
            what = f"{error.msg} at column {error.colno}" if isinstance(error, json.JSONDecodeError) else error
            raise DataError(f"{where}: not JSON ({what})", form) from error
        if not isinstance(found, dict) or not isinstance(found.get("history", []), list):
            raise DataError(f"{where}: an object with a list as 'history' is needed, found {str(found)[:80]}", form)
        user = "" if found.get("user") is None else str(found["user"])
        if "history" not in found and not user:
            raise DataError(f"{where}: neither 'user' nor 'history' in {str(found)[:80]}", form)
        if "history" not in found:
            yield book.request(user, where=where, error=DataError)
        elif not found["history"]:
            raise DataError(f"{where}: the history is empty; one item at least is needed")
        else:
            yield Request(user, book.rows(map(str, found["history"]), where=where, error=DataError))


def permitted(config: RecommendConfig, book: Book) -> np.ndarray | None:
    """(I,) bool of the items that pass --filter and --allow; None: all do.

    Raises:
        UsageError: an unknown attribute or value, nothing left; DataError: an unknown id in the file.
    """
    import numpy as np

    if not config.filter and config.allow is None:
        return None
    allowed = np.ones(book.catalogue.items, dtype=bool)
    for each in config.filter:
        allowed &= with_attribute(each, book.catalogue)
    if config.allow is not None:
        allowed &= listed(config.allow, book)
    if not allowed.any():
        raise UsageError("no item passes --filter and --allow together", "leave one of them out")
    return allowed


def with_attribute(wanted: str, catalogue: Catalogue) -> np.ndarray:
    """(I,) bool of the items that have attribute=value; of a list attribute, as one of its parts."""
    import numpy as np

    from bbqrec_cli.records import LIST_SEPARATOR

    name, equals, value = wanted.partition("=")
    known = catalogue.attributes
    if not equals:
        raise UsageError(f"--filter is {wanted!r}; attribute=value is needed", "quote it if the value has spaces")
    if name not in known:
        has = f"the items have: {', '.join(known)}" if known else "the items of this file have none"
        raise UsageError(f"--filter: no attribute {name!r}{nearest(name, known)}; {has}")
    parts = [[part.strip().casefold() for part in text.split(LIST_SEPARATOR)] for text in known[name]]
    value = value.strip().casefold()
    found = np.array([value in each for each in parts], dtype=bool)
    if not found.any():
        near = nearest(value, {part for each in parts for part in each if part})
        raise UsageError(f"--filter {wanted}: no item has this {name}{near}")
    return found


def listed(path: Path, book: Book) -> np.ndarray:
    """(I,) bool of the items named in a file, one id a line."""
    import numpy as np

    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError:
        raise MissingFileError(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not a text file of item ids ({error})") from error
    found = np.zeros(book.catalogue.items, dtype=bool)
    for number, line in enumerate(lines, start=1):
        if line.strip():
            found[book.rows([line.strip()], where=f"{path}, line {number}", error=DataError)] = True
    return found


def answer(
    model: Recommender,
    requests: list[Request],
    book: Book,
    config: RecommendConfig,
    *,
    allowed: np.ndarray | None,
    device: torch.device,
    steps: int | None,
) -> Iterator[Recommendation]:
    """The recommendations of B requests; steps: how much history the model sees."""
    import torch

    from bbqrec_cli.data.batches import Batch
    from bbqrec_cli.data.splits import HISTORY, PAD, pad
    from bbqrec_cli.models.base import Wanted

    items = torch.from_numpy(pad([request.rows for request in requests], history=steps or HISTORY))
    seen = torch.from_numpy(pad([request.rows for request in requests], history=max(len(r.rows) for r in requests)))
    wanted = Wanted(
        k=config.top, beam=config.beam, exclude=seen.to(device) if config.exclude_seen else None,
        allowed=None if allowed is None else torch.from_numpy(allowed).to(device),
    )  # fmt: skip
    best, scores = model.recommend(Batch(items, torch.full_like(items, PAD)).to(device), wanted)
    for request, rows, points in zip(requests, best.tolist(), scores.tolist(), strict=True):
        shown = [book.item(row, score) for row, score in zip(rows, points, strict=True) if row != PAD]
        yield Recommendation(user=request.user, history=[book.item(row) for row in request.rows], items=shown)
