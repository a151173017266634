"""Interactions of some days only: `--since` and `--until`."""

from __future__ import annotations

from datetime import date, datetime, timezone

from bbqrec_cli.data.sources.base import Interactions
from bbqrec_cli.data.sources.times import resolved
from bbqrec_cli.errors import DataError, UsageError
from bbqrec_cli.progress import Progress


def days(since: str | None, until: str | None) -> tuple[int | None, int | None]:
    """The first second of --since and the last one of --until, since 1970.

    Raises:
        UsageError: not a date; the first is after the last.
    """
    found: list[int | None] = []
    for flag, text, later in (("--since", since, 0), ("--until", until, 86_399)):
        try:
            day = None if text is None else date.fromisoformat(text)
        except ValueError:
            raise UsageError(f"{flag} is {text!r}; a date is needed", f"{flag} 2019-01-31") from None
        start = None if day is None else datetime(day.year, day.month, day.day, tzinfo=timezone.utc)
        found.append(None if start is None else int(start.timestamp()) + later)
    first, last = found
    if first is not None and last is not None and first > last:
        raise UsageError(f"--since {since} is after --until {until}", "exchange them")
    return first, last


def between(interactions: Interactions, first: int | None, last: int | None, progress: Progress) -> Interactions:
    """The interactions from second `first` to second `last`; None: no limit.

    Raises:
        UsageError: the source has no times, or a counter.
        DataError: nothing is left.
    """
    if first is None and last is None:
        return interactions
    times = interactions.timestamps
    found = None if times is None else resolved(times, dates=False, unit="auto")
    if times is None or found is None or not found.span:
        raise UsageError("--since and --until need times since 1970, and the interactions have none", "leave them out")
    keep = (times >= (times.min() if first is None else first)) & (times <= (times.max() if last is None else last))
    if not keep.any():
        raise DataError("--since and --until leave nothing", f"the interactions are of {found.span}")
    if left := int((~keep).sum()):
        progress.log(f"--since, --until: {left:,} of {len(keep):,} interactions are left out")
    return interactions.kept(keep, "dates") if left else interactions
