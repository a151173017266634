"""How a generator is searched: its decoder under the searches over the trie of the catalogue's semantic IDs.

B users, n prefixes, T items of history, L levels, M signals, N codes, C tuples of the first level, D width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.nn.functional import linear

from bbqrec_cli.data.batches import Batch
from bbqrec_cli.data.splits import PAD
from bbqrec_cli.decoding.beam import Expand, Permitted, Step, best_items, item_log_probabilities, sums_of_codes
from bbqrec_cli.decoding.best_first import OtherScores, best_first
from bbqrec_cli.decoding.bounded import ROOM, bounded_beam_search, bounded_search
from bbqrec_cli.models.base import Wanted, diverged, top_items
from bbqrec_cli.models.code_decoder import Decoding
from bbqrec_cli.models.heads import Head, best_shares, pooled
from bbqrec_cli.models.prefix_states import Kept, Prefixed, PrefixStates, newest_tokens

CELLS = 1 << 24
"""Elements of the largest tensor that `recommend` may build; larger batches are split."""
USERS_AT_ONCE = 48
"""Users for whom a CPU decodes at once: their tensors fit its cache, and their histories are of similar length."""
MANY = 16
"""Users from whom on the sums of the codes' vectors are made for the first level's tuples, once for all users."""


CANDIDATES = 30
"""Best items of the generator and of each head among which the heads' shares are chosen."""
BEAM = 50
"""Width of the beam where none is given."""


class Tables(NamedTuple):
    """What a search needs that does not depend on the users.

    first: `first_level`, None: not made; dense: `dense_table`, None: no dense head; prefixes: see `PrefixStates`.
    """

    first: tuple[Tensor, Tensor] | None = None
    dense: Tensor | None = None
    prefixes: Kept | None = None

    @classmethod
    def of(cls, model: Generator, *, users: int, width: int) -> Tables:
        """For a search of this width (0: exact) for so many users."""
        prefixes = model.prefix_states.of(model, users * (width or BEAM) * (model.levels - 1))
        # Not in half precision, which would tie different items.
        with torch.autocast(model.log_sharing.device.type, enabled=False):
            first = model.first_level() if users >= MANY and model.over_children else None
            return cls(first, model.dense_table(), prefixes)


class Generator(Prefixed, Protocol):
    """What a search needs of `SemanticIDGenerator`."""

    levels: int
    size: int
    over_children: bool
    log_sharing: Tensor
    prefix_states: PrefixStates

    @property
    def heads(self) -> dict[str, Head]: ...

    def encode(self, batch: Batch) -> Tensor: ...
    def last_states(self, memory: Tensor, visible: Tensor) -> Tensor: ...
    def logits(self, states: Tensor, level: int) -> Tensor: ...
    def first_level(self) -> tuple[Tensor, Tensor]: ...
    def tuple_logits(self, states: Tensor) -> Tensor | None: ...
    def dense_table(self) -> Tensor | None: ...
    def answers(self, encoded: Tensor, batch: Batch, table: Tensor | None) -> dict[str, Tensor]: ...
    def shares(self) -> Tensor: ...


def recommend(model: Generator, batch: Batch, wanted: Wanted) -> tuple[Tensor, Tensor]:
    """Trie-constrained search, exact or with a beam; see `Recommender.recommend`.

    Where no width is given, the search is exact with heads and a softmax over the catalogue: the heads bound so well
    what is left that this takes less time than a beam.
    """
    if wanted.beam is None:
        exact = bool(model.heads) and model.over_children
        wanted = replace(wanted, beam=0 if exact else BEAM)
    at_once, lengths = users_at_once(model, max(wanted.beam or ROOM, wanted.k)), batch.lengths
    tables = Tables.of(model, users=len(batch.items), width=wanted.beam or 0)
    # Histories of similar length together, without what pads all of them.
    order, found = lengths.argsort(stable=True), []
    for rows in order.split(at_once):
        longest = max(1, int(lengths[rows[-1]]))
        part = Batch(batch.items[rows, :longest], batch.targets[rows, :longest])
        of_part = wanted if wanted.exclude is None else replace(wanted, exclude=wanted.exclude[rows])
        found.append(_search(model, part, of_part, tables))
    back = order.argsort()
    return torch.cat([items for items, _ in found])[back], torch.cat([scores for _, scores in found])[back]


def users_at_once(model: Generator, width: int) -> int:
    """For how many users at once a search of this width is done."""
    children = [int(model.trie.child_bounds(depth).diff().max()) for depth in range(model.levels)]
    widest = max(children[0], width * max([*children[1:], model.size]), model.trie.items if model.heads else 0)
    at_once = max(1, CELLS // widest)
    return min(at_once, USERS_AT_ONCE) if model.log_sharing.device.type == "cpu" else at_once


def _search(model: Generator, batch: Batch, wanted: Wanted, tables: Tables) -> tuple[Tensor, Tensor]:
    encoded = model.encode(batch)
    if not wanted.beam:
        return _exact(model, encoded, batch, wanted, tables)
    if not model.heads:
        return _beam(model, encoded, batch, wanted, tables)
    wide = replace(wanted, k=max(wanted.beam, wanted.k))
    items, scores = candidates(model, encoded, batch, wide, tables)
    return best_items(model.trie, items, pooled(scores, model.shares()), wanted.k)


def _permitted(model: Generator, wanted: Wanted, users: int) -> Permitted:
    return Permitted.of(model.trie, wanted.allowed, wanted.exclude, users)


def _beam(model: Generator, encoded: Tensor, batch: Batch, wanted: Wanted, tables: Tables) -> tuple[Tensor, Tensor]:
    """The generator's K best items by a beam, without the heads."""
    return bounded_beam_search(
        model.trie, expander(model, encoded, batch.mask, tables), width=max(wanted.beam or 0, wanted.k),
        k=wanted.k, permitted=_permitted(model, wanted, len(encoded)), over_children=model.over_children,
    )  # fmt: skip


def candidates(
    model: Generator, encoded: Tensor, batch: Batch, wanted: Wanted, tables: Tables
) -> tuple[Tensor, Tensor]:
    """The K best items of the generator, by a beam, and of each of H heads.

    Returns:
        items (B, K · (1 + H)), PAD in the place of those that stand there already; their log P by the generator (-inf
        for PAD) and by each head, (B, K · (1 + H), 1 + H).
    """
    items, scores = _beam(model, encoded, batch, wanted, tables)
    answers = model.answers(encoded, batch, tables.dense).values()
    for answer in answers:
        more, _ = top_items(answer, wanted)
        more = more.masked_fill((more.unsqueeze(2) == items.unsqueeze(1)).any(2), PAD)
        items = torch.cat([items, more], dim=1)
    rows = items.clamp(min=0)
    others = item_log_probabilities(
        model.trie, stepper(model, encoded, batch.mask), rows[:, wanted.k :], over_children=model.over_children
    )
    generated = (torch.cat([scores, others], dim=1) - model.log_sharing[rows]).masked_fill(items == PAD, -torch.inf)
    return items, torch.stack([generated, *(answer.gather(1, rows) for answer in answers)], dim=2)


def fitted_shares(model: Generator, batches: Iterable[tuple[Batch, Tensor | None]]) -> Tensor:
    """`best_shares` for held-out targets, see `Recommender.calibrate`."""
    tables = Tables.of(model, users=MANY, width=BEAM)
    at_once, hits, scores = users_at_once(model, BEAM), list[Tensor](), list[Tensor]()
    for batch, exclude in batches:
        for rows in torch.arange(len(batch.items), device=batch.items.device).split(at_once):
            part = Batch(batch.items[rows], batch.targets[rows])
            wanted = Wanted(k=CANDIDATES, exclude=None if exclude is None else exclude[rows])
            items, log_p = candidates(model, model.encode(part), part, wanted, tables)
            hits.append(items == part.last(part.targets).unsqueeze(1))
            scores.append(log_p)
    return best_shares(torch.cat(hits), torch.cat(scores))


def _exact(model: Generator, encoded: Tensor, batch: Batch, wanted: Wanted, tables: Tables) -> tuple[Tensor, Tensor]:
    head, mask, permitted = None, batch.mask, _permitted(model, wanted, len(encoded))
    if model.heads:
        shares, answers = model.shares(), model.answers(encoded, batch, tables.dense)
        others: Any = sum(share * answer for share, answer in zip(shares, answers.values(), strict=True))
        head = OtherScores.of(model.trie, others, permitted, 1 - shares.sum())
    if head is not None or not model.over_children:  # the latter has too many prefixes to follow at once
        return _best_first(model, encoded, mask, wanted.k, permitted, tables, head)
    items, scores, proven = bounded_search(
        model.trie, expander(model, encoded, mask, tables), k=wanted.k, permitted=permitted,
        over_children=model.over_children,
    )  # fmt: skip
    left = (~proven).nonzero()[:, 0]
    if len(left):
        part = permitted.users(left)
        items[left], scores[left] = _best_first(model, encoded[left], mask[left], wanted.k, part, tables, None)
    return items, scores


def _best_first(
    model: Generator, encoded: Tensor, mask: Tensor, k: int, permitted: Permitted, tables: Tables,
    head: OtherScores | None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    return best_first(
        model.trie, lambda users: expander(model, encoded[users], mask[users], tables), k=k,
        permitted=permitted, over_children=model.over_children, head=head,
    )  # fmt: skip


def stepper(model: Generator, encoded: Tensor, mask: Tensor) -> Step:
    """The step function of a beam search after the histories `encoded` (B, T·L, D)."""
    (token, decode), before = _decoder(model, encoded, mask, Tables()), 1

    def step(level: int, parent: Tensor, codes: Tensor) -> tuple[Tensor, Tensor | None]:
        nonlocal before
        users, beams = parent.shape
        user = torch.arange(users, device=parent.device)
        number = parent + before * user.unsqueeze(1)
        before = beams
        user = user.repeat_interleave(beams)
        logits, tuples = decode(level, user, number.flatten(), token(level, user, codes.flatten(0, 1)))
        return logits.unflatten(0, (users, beams)), tuples

    return step


def first_logits(model: Generator, states: Tensor, logits: Tensor, first: tuple[Tensor, Tensor] | None) -> Tensor:
    """Logits of the first level's tuples, (n, C). states (n, D), logits (n, M, N) of codes; first: see `Tables`, None
    for few users."""
    if first is not None:
        return linear(states, *first)
    found, extra = sums_of_codes(logits, model.trie.codes(0)), model.tuple_logits(states)
    return found if extra is None else found + extra


def expander(model: Generator, encoded: Tensor, mask: Tensor, tables: Tables) -> Expand:
    """The `Expand` of a search after the histories `encoded` (B, T·L, D)."""
    (token, decode), prefixes, trie = _decoder(model, encoded, mask, tables), tables.prefixes, model.trie

    def expand(level: int, users: Tensor, parent: Tensor, nodes: Tensor) -> tuple[Tensor, Tensor | None]:
        if prefixes is not None:
            return decode(level, users, parent, *(each.index_select(0, nodes) for each in prefixes[level]))
        codes = trie.codes(level - 1)[nodes] if level else nodes.new_zeros(len(nodes), model.signals)
        return decode(level, users, parent, token(level, users, codes))

    return expand


def _decoder(model: Generator, encoded: Tensor, mask: Tensor, tables: Tables) -> tuple[Callable[..., Any], ...]:
    """The decoder after the histories: what makes the newest tokens (n, D) of prefixes of their codes (n, M), and what
    decodes these."""
    last = model.last_states(encoded, mask.unsqueeze(1))[:, 0]
    decoding = Decoding(model.decoder, encoded, mask.repeat_interleave(model.levels, 1))

    def token(level: int, users: Tensor, codes: Tensor) -> Tensor:
        return newest_tokens(model, level, codes, last[users])

    def decode(
        level: int, users: Tensor, parent: Tensor, x: Tensor, query: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        states = decoding.step(level, users, parent, x, query)
        # Not in half precision, which would tie different items.
        with torch.autocast(states.device.type, enabled=False):
            states = states.float()
            logits = model.logits(states, level)
            if not logits.sum().isfinite():  # else the search would find nothing, without a word
                raise diverged()
            wanted = model.over_children and not level
            return logits, first_logits(model, states, logits, tables.first) if wanted else None

    return token, decode
