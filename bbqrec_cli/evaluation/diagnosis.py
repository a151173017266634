"""Diagnosis of a generator: how well it predicts codes, and where its beam loses targets.

B users, T items of history, W beams, L levels, M signals, N codes, C children.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from bbqrec_cli.data.batches import Batch, held_out_batches
from bbqrec_cli.data.splits import HeldOut
from bbqrec_cli.decoding.beam import PathLevel, Permitted, Step, Trace, beam_search, follow_path
from bbqrec_cli.decoding.trie import Trie
from bbqrec_cli.device import autocast
from bbqrec_cli.evaluation.metrics import aggregate, rank_of_target
from bbqrec_cli.models.base import Wanted, top_items
from bbqrec_cli.progress import SILENT, Progress

BEAMS = (10, 20, 50, 100)
WIDER = 8
"""Factor by which the beam grows until its result is proven to be the best."""
BEAMS_AT_ONCE = 6400
Row = dict[str, Any]


class Diagnosable(Protocol):
    """The interface of a model that generates semantic IDs; see `models/semantic_id_generator.py`."""

    trie: Trie
    codes: Tensor
    levels: int
    signals: int
    size: int
    over_children: bool
    heads: Mapping[str, Any]

    def encode(self, batch: Batch) -> Tensor: ...
    def stepper(self, encoded: Tensor, mask: Tensor) -> Step: ...
    def dense_table(self) -> Tensor | None: ...
    def answers(self, encoded: Tensor, batch: Batch, table: Tensor | None) -> dict[str, Tensor]: ...
    def recommend(self, batch: Batch, wanted: Wanted) -> tuple[Tensor, Tensor]: ...


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """The result of `diagnose`.

    codes: per level, one row for its code tuple (signal 'all') and one per signal: nll and entropy (nats) and accuracy,
    given the target's codes before; for the tuple also choices, the mean number of children. A model that normalises
    over codes chooses each signal's on its own, among all N: the tuple's nll and entropy are the sums of the signals',
    and it is right if all its codes are.
    searches: one row per beam width, the last one (beam None) wide enough for an exact search: Recall and NDCG, and
    lost, the share of users whose target leaves the beam at each level.
    heads: one row per way of scoring, if the model has heads beside the generator.
    """

    users: int
    codes: list[Row]
    searches: list[Row]
    heads: list[Row]


@torch.no_grad()
def diagnose(
    model: Diagnosable,
    held: HeldOut,
    *,
    signals: Sequence[str],
    ks: Sequence[int],
    device: torch.device,
    precision: str = "fp32",
    batch_size: int = 64,
    progress: Progress = SILENT,
) -> Diagnosis:
    """Score the targets of held-out users by teacher forcing, and search with several beam widths and exactly.

    Args:
        signals: names of the M signals.
        ks: cut-offs k of Recall@k and NDCG@k.
    """
    users, depth = len(held.users), max(ks)
    sums = np.zeros((model.levels, 1 + model.signals, 4))
    widths = [width for width in BEAMS if width >= depth] or [depth]
    lost = {width: np.zeros(model.levels) for width in widths}
    ranks: dict[int | str | None, np.ndarray] = defaultdict(lambda: np.zeros(users, dtype=np.int64))
    with progress.task("diagnosing", users) as task, autocast(device, precision):
        for rows, batch in held_out_batches(held, batch_size):
            case = _Case(model, batch.to(device), torch.from_numpy(held.targets[rows]).to(device))
            sums += case.codes()
            for width in widths:
                items, trace = case.search(width)
                ranks[width][rows] = rank_of_target(items[:, :depth].cpu().numpy(), held.targets[rows])
                lost[width] += case.lost(trace)
            ranks[None][rows] = rank_of_target(case.best(depth, items, trace).cpu().numpy(), held.targets[rows])
            for name, items in case.heads(depth, widths[-1]).items():
                ranks[name][rows] = rank_of_target(items.cpu().numpy(), held.targets[rows])
            task.advance(len(rows))
    figures = {which: aggregate(found, ks) for which, found in ranks.items()}
    return Diagnosis(
        users=users, codes=_rows(sums / users, signals),
        searches=[
            {"beam": width, **figures[width], "lost": (lost[width] / users).tolist() if width else None}
            for width in (*widths, None)
        ],
        heads=[{"head": name, **found} for name, found in figures.items() if isinstance(name, str)],
    )  # fmt: skip


def _rows(means: np.ndarray, signals: Sequence[str]) -> list[Row]:
    """Rows of `Diagnosis.codes`. means (L, 1 + M, 4): nll, accuracy, entropy, choices."""
    return [
        {"level": level + 1, "signal": name, "nll": float(nll), "accuracy": float(accuracy), "entropy": float(entropy)}
        | ({"choices": float(choices)} if name == "all" else {})
        for level, of_level in enumerate(means)
        for name, (nll, accuracy, entropy, choices) in zip(("all", *signals), of_level, strict=True)
    ]


class _Case:
    """One batch of users, encoded once. targets (B,) rows of items."""

    def __init__(self, model: Diagnosable, batch: Batch, targets: Tensor) -> None:
        self.model, self.batch, self.targets = model, batch, targets
        self.encoded = model.encode(batch)

    def codes(self) -> np.ndarray:
        """Sums over users of nll, accuracy, entropy and choices, (L, 1 + M, 4)."""
        model, asked = self.model, self.targets.unsqueeze(1)
        step = model.stepper(self.encoded, self.batch.mask)
        places = follow_path(model.trie, step, asked, over_children=model.over_children)
        return np.array([self._of_level(level, place) for level, place in enumerate(places)])

    def _of_level(self, level: int, place: PathLevel) -> list[list[float]]:
        tuples, wanted = place.found[:, 0], self.model.codes[self.targets, level]
        each = zip(self._signals(level, place), wanted.unbind(1), strict=True)
        signals = [_judged(log_p, code) for log_p, code in each]
        if self.model.over_children:
            whole = _judged(tuples, place.chosen[:, 0])
        else:  # `tuples` leaves out what no item has, so it is no distribution; the signals are independent
            nll, right, entropy = torch.stack(signals).unbind(1)
            whole = torch.stack([nll.sum(0), right.amin(0), entropy.sum(0)])
        choices = float((tuples > -torch.inf).sum())
        return [[*whole.sum(1).tolist(), choices], *([*of.sum(1).tolist(), 0.0] for of in signals)]

    def _signals(self, level: int, place: PathLevel) -> list[Tensor]:
        """log P of each signal's codes, M of (B, N)."""
        if not self.model.over_children:
            return list(place.logits[:, 0].float().log_softmax(2).unbind(1))
        codes, p = self.model.trie.codes(level)[place.children[:, 0]], place.found[:, 0].exp()
        sums = [p.new_zeros(len(p), self.model.size).scatter_add(1, c, p) for c in codes.unbind(2)]
        return [each.log() for each in sums]

    def search(self, width: int, users: Tensor | None = None) -> tuple[Tensor, Trace]:
        """Items (B, W) and the trace of a search, for all users or for `users` (rows of the batch)."""
        encoded, mask = (x if users is None else x[users] for x in (self.encoded, self.batch.mask))
        model, trace = self.model, Trace(torch.full((len(mask),), -torch.inf, device=mask.device))
        items, _ = beam_search(
            model.trie, model.stepper(encoded, mask), width=width, k=width, over_children=model.over_children,
            permitted=Permitted.of(model.trie, None, None, len(mask)), trace=trace,
        )  # fmt: skip
        return items, trace

    def lost(self, trace: Trace) -> np.ndarray:
        """Number of users whose target leaves the beam at each level, (L,)."""
        path = [self.model.trie.node(depth + 1)[self.targets].unsqueeze(1) for depth in range(self.model.levels)]
        there = [(nodes == node).any(1) for nodes, node in zip(trace.nodes, path, strict=True)]
        before = [torch.ones_like(there[0]), *there[:-1]]
        return np.array([float((a & ~b).sum()) for a, b in zip(before, there, strict=True)])

    def best(self, depth: int, items: Tensor, trace: Trace) -> Tensor:
        """The `depth` most probable items, (B, depth): the beam widens until no better item can be left.

        items, trace: of a first search.
        """
        found, width = items[:, :depth].clone(), items.shape[1]
        left = (~trace.proven(depth)).nonzero()[:, 0]
        while len(left):
            width, proven = width * WIDER, []
            for users in left.split(max(1, BEAMS_AT_ONCE // width)):
                items, trace = self.search(width, users)
                found[users] = items[:, :depth]
                proven.append(trace.proven(depth))
            left = left[~torch.cat(proven)]
        return found

    def heads(self, depth: int, width: int) -> dict[str, Tensor]:
        """Items (B, depth) by each head alone, and by the generator and all of them."""
        if not self.model.heads:
            return {}
        wanted = Wanted(k=depth, beam=width)
        answers = self.model.answers(self.encoded, self.batch, self.model.dense_table())
        found = {name: top_items(each, wanted)[0] for name, each in answers.items()}
        return found | {"united": self.model.recommend(self.batch, wanted)[0]}


def _judged(log_p: Tensor, chosen: Tensor) -> Tensor:
    """nll, whether the best is right, and entropy of each user, (3, B). log_p (B, C), chosen (B,)."""
    nll = -log_p.gather(1, chosen.unsqueeze(1)).squeeze(1)
    entropy = -(log_p.exp() * log_p.clamp(min=torch.finfo(log_p.dtype).min)).sum(1)
    return torch.stack([nll, (log_p.argmax(1) == chosen).to(nll.dtype), entropy])
