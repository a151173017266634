"""recommend: a trained model and users' histories -> the best items, with titles. I items, B users per batch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from bbqrec_cli.config import option
from bbqrec_cli.errors import DataError, UsageError
from bbqrec_cli.progress import SILENT, Progress
from bbqrec_cli.serving.options import ServingConfig

if TYPE_CHECKING:
    import numpy as np

    from bbqrec_cli.serving.requests import Refused, Request
    from bbqrec_cli.serving.session import Recommendation, Session

FIRST_USERS = 5


@dataclass(frozen=True, kw_only=True)
class RecommendConfig(ServingConfig):
    """Options of `bbqrec recommend`."""

    without: ClassVar[frozenset[str]] = frozenset({"force", "seed"})

    model: Path = option(Path("model.h5"), "Model file.", role="input", positional=True, complete=".h5")
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
    allowed = allowed_items(catalogue, config.filter, config.allow, config.deny, progress)
    requests: Iterable[Request | Refused]
    if config.stdin:
        requests = requests_of_lines(lines, catalogue)
    else:
        first = config.users or FIRST_USERS
        requests = requests_of_options(catalogue, history=config.history, users=config.user, first=first)
    fewer, read, refused = 0, 0, 0
    for batch in request_batches(requests, config.batch_size):
        for found in answers(session, batch, config, allowed):
            read += 1
            if isinstance(found, Refused):
                refused += 1
            elif len(found.items) < config.top:
                fewer += 1
                if fewer == 1:
                    whom = f" for user {found.user}" if found.user else ""
                    progress.warn(f"only {len(found.items)} items are left{whom}; --top asks for {config.top}")
            if config.history and not isinstance(found, Refused) and found.unknown:
                progress.warn(f"--history: no item {', '.join(map(repr, found.unknown))}; left out")
            yield found
    if fewer > 1:
        progress.warn(f"{fewer:,} of {read:,} lists have fewer than {config.top} items (--top)")
    if refused:
        raise DataError(f"stdin: {refused:,} of {read:,} lines have an error instead of an answer", "see stdout")


def answers(
    session: Session, batch: list[Request | Refused], config: ServingConfig, allowed: np.ndarray | None
) -> Iterator[Recommendation | Refused]:
    """The answers of a batch in its order; what was refused stays."""
    from bbqrec_cli.serving.requests import Request

    asked = [each for each in batch if isinstance(each, Request)]
    made: Iterator[Recommendation] = iter(())  # a batch without any request has no shape
    if asked:
        made = session.answer(asked, config, allowed)
    for each in batch:
        yield next(made) if isinstance(each, Request) else each
