"""recommend: a trained model and users' histories -> the best items, with titles. I items, B users per batch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from bbqrec_cli.config import StageConfig, option
from bbqrec_cli.errors import DataError, UsageError
from bbqrec_cli.progress import SILENT, Progress
from bbqrec_cli.serving.options import beam_option, unite_option

if TYPE_CHECKING:
    import numpy as np

    from bbqrec_cli.serving.requests import Refused, Request
    from bbqrec_cli.serving.session import Recommendation, Session

FIRST_USERS = 5


@dataclass(frozen=True, kw_only=True)
class RecommendConfig(StageConfig):
    """Options of `bbqrec recommend`."""

    without: ClassVar[frozenset[str]] = frozenset({"force", "seed"})

    model: Path = option(Path("model.h5"), "Model file.", role="input", positional=True, complete=".h5")
    tokens: Path | None = option(
        None, "Extended tokens file (tokenize --append): recommend to its users, its new items too, without training.",
        role="input", complete=".h5",
    )  # fmt: skip
    unite: tuple[Path, ...] = unite_option()
    user: tuple[str, ...] | None = option(
        None, "Id of a user of the file; repeat it or separate by commas.", repeatable=True
    )
    users: int = option(0, "Number of users, from the first of the file on (5 if no user is named).", minimum=0)
    history: tuple[str, ...] | None = option(
        None, "A history: item ids, oldest first, separated by commas; or repeat it.", repeatable=True
    )
    stdin: bool = option(
        False, 'Read JSON lines {"user": …, "history": [ids]} from stdin and answer each with one line; a user of the '
        "file needs no history."
    )  # fmt: skip
    top: int = option(10, "Items to recommend per user.", minimum=1)
    beam: int | None = beam_option()
    include_seen: bool = option(False, "Recommend also what the user has interacted with already.")
    exclude_seen: bool | None = option(None, "The default: leave out what the user has interacted with.", hidden=True)
    filter: tuple[str, ...] = option(
        (), "attribute=value: only items that have it; case is ignored; repeated: all must hold.", repeatable=True
    )
    allow: Path | None = option(None, "File of item ids, one per line: recommend only these.", role="input")
    batch_size: int = option(64, "Users per batch; --stdin reads this many lines before it answers.", minimum=1)

    def __post_init__(self) -> None:
        if self.include_seen and self.exclude_seen:
            raise UsageError("--include-seen and --exclude-seen exclude each other", "give one of them")

    @property
    def without_seen(self) -> bool:
        """Whether items of the user's history are left out."""
        return not self.include_seen and self.exclude_seen is not False


def run(
    config: RecommendConfig, progress: Progress = SILENT, lines: Iterable[str | bytes] = ()
) -> Iterator[Recommendation | Refused]:
    """Yield one recommendation per request, or with `config.stdin` why a line has none.

    Args:
        lines: the requests, with `config.stdin`.

    Raises:
        UsageError, LackingError and the errors of reading a model file.
        DataError: after the last line: some could not be answered.
    """
    from bbqrec_cli.device import resolve_device, set_threads
    from bbqrec_cli.serving.filters import allowed_items
    from bbqrec_cli.serving.requests import Refused, request_batches, requests_of_lines, requests_of_options
    from bbqrec_cli.serving.session import Session

    named = [name for name in ("user", "users", "history", "stdin") if getattr(config, name)]
    if config.history is not None and not any(map(str.strip, config.history)):
        raise UsageError("--history is empty", "give at least one item id")
    if len(named) > 1:
        raise UsageError("--" + " and --".join(named) + " exclude each other", "give one of them")
    set_threads(config.threads)
    session = Session.open(config.model, config.tokens, resolve_device(config.device), config.unite)
    catalogue = session.catalogue
    allowed = allowed_items(catalogue, config.filter, config.allow)
    requests: Iterable[Request | Refused]
    if config.stdin:
        requests = requests_of_lines(lines, catalogue)
    else:
        first = config.users or FIRST_USERS
        requests = requests_of_options(catalogue, history=config.history, users=config.user, first=first)
    enough, read, refused = True, 0, 0
    for batch in request_batches(requests, config.batch_size):
        for found in answers(session, batch, config, allowed):
            read += 1
            if isinstance(found, Refused):
                refused += 1
            elif enough and len(found.items) < config.top:
                enough = False
                whom = f" for user {found.user}" if found.user else ""
                progress.warn(f"only {len(found.items)} items are left{whom}; --top asks for {config.top}")
            if config.history and not isinstance(found, Refused) and found.unknown:
                progress.warn(f"--history: no item {', '.join(map(repr, found.unknown))}; left out")
            yield found
    if refused:
        raise DataError(f"stdin: {refused:,} of {read:,} lines have an error instead of an answer", "see stdout")


def answers(
    session: Session, batch: list[Request | Refused], config: RecommendConfig, allowed: np.ndarray | None
) -> Iterator[Recommendation | Refused]:
    """The answers of a batch in its order; what was refused stays."""
    from bbqrec_cli.serving.requests import Request

    asked = [each for each in batch if isinstance(each, Request)]
    made: Iterator[Recommendation] = iter(())  # a batch without any request has no shape
    if asked:
        made = session.answer(
            asked, top=config.top, beam=config.beam, exclude_seen=config.without_seen, allowed=allowed
        )  # fmt: skip
    for each in batch:
        yield next(made) if isinstance(each, Request) else each
