"""A loaded model that answers requests; all serving of recommendations uses a `Session`.

B users per batch, T items of history, I items.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bbqrec_cli.data.batches import Batch
from bbqrec_cli.data.splits import PAD, pad
from bbqrec_cli.errors import UsageError
from bbqrec_cli.hdf5 import read_tokens
from bbqrec_cli.models.base import Recommender, Wanted, check_answer
from bbqrec_cli.models.new_items import with_tokens
from bbqrec_cli.models.united import load_united, read_models
from bbqrec_cli.records import Catalogue
from bbqrec_cli.serving.options import ServingConfig
from bbqrec_cli.serving.requests import Request


@dataclass(frozen=True)
class Item:
    """An item of the output. score: log-probability or logit, by which the model ranks; of united
    models, see `United`."""

    id: str
    title: str
    score: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Recommendation:
    """user: '' for a given history; history: all its items, oldest first; items: best first; unknown: ids of the
    history that were left out."""

    user: str
    history: list[Item]
    items: list[Item]
    unknown: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The keys that docs/scripting.md names."""
        items = [{"id": item.id, "title": item.title, "score": item.score} for item in self.items]
        return {
            "user": self.user or None, "items": items, "history": [item.id for item in self.history],
            "unknown": list(self.unknown),
        }  # fmt: skip


def recommendation_columns(made: Iterable[Recommendation]) -> dict[str, list[Any]]:
    """One row per item: user (None for a history), rank from 1, item, title, score."""
    rows = [
        (each.user or None, rank, item.id, item.title, item.score)
        for each in made
        for rank, item in enumerate(each.items, start=1)
    ]
    return {name: [row[place] for row in rows] for place, name in enumerate(("user", "rank", "item", "title", "score"))}


@dataclass(eq=False, kw_only=True)
class Session:
    """A model in memory, its catalogue and device. The network is built on first use."""

    catalogue: Catalogue
    load: Any
    _model: Recommender | None = None
    device: torch.device

    @classmethod
    def open(cls, model: Path, tokens: Path | None, device: torch.device, unite: Sequence[Path] = ()) -> Session:
        """The session of a model file.

        Args:
            tokens: an extended tokens file, with further users and items; None: only the model file.
            unite: further models, whose lists are united with this one's.

        Raises:
            UsageError: both `tokens` and `unite`, or a file twice.
            DataError: the tokens file does not extend the model's IDs, or a further model has other items; the errors
                of reading files.
        """
        if tokens is not None and unite:
            raise UsageError("--tokens and --unite exclude each other", "give one of them")
        trained, *more = read_models(model, unite)
        if tokens is not None:
            trained = with_tokens(trained, read_tokens(tokens), where=str(tokens))
        return cls(catalogue=trained.catalogue, load=lambda: load_united([trained, *more], device), device=device)

    @property
    def model(self) -> Recommender:
        """The network, in eval mode."""
        if self._model is None:
            self._model = self.load()
        return self._model

    def item(self, row: int, score: float = 0.0) -> Item:
        """An item for the output, by its row."""
        return Item(self.catalogue.item_ids[row], self.catalogue.titles[row], score)

    def answer(
        self, requests: Sequence[Request], config: ServingConfig, allowed: np.ndarray | None
    ) -> Iterator[Recommendation]:
        """Yield the recommendations of B requests. allowed (I,) bool: the only candidates; None: all items."""
        rows = [request.rows for request in requests]
        items = torch.from_numpy(pad(rows, history=self.model.history))
        seen = torch.from_numpy(pad(rows, history=max(map(len, rows))))
        wanted = Wanted(
            k=config.top, beam=config.beam, exclude=seen.to(self.device) if config.without_seen else None,
            allowed=None if allowed is None else torch.from_numpy(allowed).to(self.device),
        )  # fmt: skip
        answer = self.model.recommend(Batch(items, torch.full_like(items, PAD)).to(self.device), wanted)
        check_answer(answer, self.model, wanted, users=len(rows), items=self.catalogue.items)
        best, scores = answer
        for request, found, points in zip(requests, best.tolist(), scores.tolist(), strict=True):
            shown = [self.item(row, score) for row, score in zip(found, points, strict=True) if row != PAD]
            history = [self.item(row) for row in request.rows]
            yield Recommendation(user=request.user, history=history, items=shown, unknown=request.unknown)
