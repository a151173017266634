"""The decoder of semantic IDs: it attends to the history, then to the levels before.

B users, Q queries, P queries of all users, K keys, D width, n prefixes, R of a user, H heads, E width of a head.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

import torch
from torch import Tensor, nn

from bbqrec_cli.models.layers import Attention, Dropout, Layer
from bbqrec_cli.models.packing import Grid


class DecoderLayer(nn.Module):
    """Pre-norm: cross-attention into the history, causal self-attention over the levels, feed-forward.

    Args:
        own: self-attention and feed-forward.
        cross, norm: the cross-attention and the norm before it.
        own_first: the self-attention comes before the cross-attention.
    """

    def __init__(self, own: Layer, cross: Attention, norm: nn.Module, *, dropout: float, own_first: bool) -> None:
        super().__init__()
        self.own, self.cross, self.norm, self.dropout = own, cross, norm, Dropout(dropout)
        self.own_first = own_first

    def forward(
        self, x: Tensor, memory: Tensor, visible: Tensor, own: Tensor, bias: Tensor | None, grid: Grid
    ) -> Tensor:
        """x (P, D); memory: the history's keys and values; visible (B, Q, K); own (B, Q, Q); bias: of the
        self-attention -> (P, D)."""
        extra: dict[str, Any] = {"grid": grid} if bias is None else {"grid": grid, "bias": bias}
        if self.own_first:
            return self.own.feed(self._look(self.own.look(x, own, **extra), memory, visible, grid))
        return self.own(self._look(x, memory, visible, grid), own, **extra)

    def _look(self, x: Tensor, memory: Tensor, visible: Tensor, grid: Grid) -> Tensor:
        return x + self.dropout(self.cross.attend(self.norm(x), memory, visible, grid=grid))


class CodeDecoder(nn.Module):
    """A stack of layers, run over many queries at once (training) or over the newest token of each prefix (`Decoding`).

    Args:
        relative: biases (…, H, Q, K) of the self-attention for distances (…, Q, K) between levels, the same for all
            layers; None: no biases.
    """

    def __init__(self, layers: Iterable[DecoderLayer], norm: nn.Module, relative: nn.Module | None = None) -> None:
        super().__init__()
        self.layers, self.norm, self.relative = nn.ModuleList(layers), norm, relative

    def history_keys_values(self, memory: Tensor) -> list[Tensor]:
        """Keys and values of the history (B, K, D), per layer: computed once per user, for all queries and beams."""
        return [layer.cross.keys_values(memory) for layer in self.stack()]

    def forward(
        self, x: Tensor, memory: list[Tensor], visible: Tensor, own: Tensor, level: Tensor, grid: Grid
    ) -> Tensor:
        """x (P, D); visible (B, Q, K), own (B, Q, Q): the keys and queries that each query sees; level (B, Q): each
        query's; grid: where the P queries stand -> (P, D)."""
        bias = None if self.relative is None else self.relative(level.unsqueeze(1) - level.unsqueeze(2))
        for layer, context in zip(self.stack(), memory, strict=True):
            x = layer(x, context, visible, own, bias, grid)
        return self.norm(x)

    def stack(self) -> list[DecoderLayer]:
        """The layers."""
        return cast(list[DecoderLayer], list(self.layers))


def code_decoder(
    width: int, *, layers: int, heads: int, dropout: float, inner: int, head_width: int = 0
) -> CodeDecoder:
    """The decoder of layers that look at the history first."""

    def attention() -> Attention:
        return Attention(width, heads=heads, dropout=dropout, head_width=head_width)

    def layer() -> DecoderLayer:
        own = Layer(width, dropout=dropout, inner=inner, attention=attention())
        return DecoderLayer(own, attention(), nn.LayerNorm(width), dropout=dropout, own_first=False)

    return CodeDecoder((layer() for _ in range(layers)), nn.LayerNorm(width))


class Decoding:
    """The decoder over the prefixes that a search follows, after the histories of B users.

    The keys and values of the histories are computed once per user, those of a prefix's tokens once per prefix.

    Args:
        encoded: (B, K, D) states of the histories.
        visible: (B, K) bool, those that exist.
    """

    def __init__(self, decoder: CodeDecoder, encoded: Tensor, visible: Tensor) -> None:
        self.decoder, self.levels = decoder, list[_Level]()
        # Per layer (B, H, K, E) twice.
        self.memory = [(key.contiguous(), value.contiguous()) for key, value in decoder.history_keys_values(encoded)]
        # Only a CPU knows at no cost that nothing is padded.
        everything = visible.device.type == "cpu" and bool(visible.all())
        hidden = torch.zeros_like(visible, dtype=torch.float32).masked_fill(~visible, -1e9)
        self.hidden = None if everything else hidden[:, None, None]

    def step(self, level: int, users: Tensor, parent: Tensor, x: Tensor, query: Tensor | None = None) -> Tensor:
        """Decode one more token of each of n prefixes.

        Args:
            users: (n,) rows of the users, ascending.
            parent: (n,) numbers of the prefixes that are extended, counted over all calls at the level before.
            x: (n, D) the newest token; with `query` (n, H · E), both as of `before_history`, at all levels.

        Returns:
            states (n, D).
        """
        ancestors, bias = self._extend(level, parent)
        places = _Places(users, len(self.memory[0][0]))
        for number, layer in enumerate(self.decoder.stack()):
            if layer.own_first:
                if number or query is None:
                    x, query = self._own(number, layer, x, ancestors, bias), None
                x = self._history(number, layer, x, places, query)
            else:
                x = self._own(number, layer, self._history(number, layer, x, places), ancestors, bias)
            x = layer.own.feed(x)
        return self.decoder.norm(x)

    def before_history(self, level: int, parent: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """What a first layer that looks at its own tokens first makes of them, of one more token of each of n prefixes:
        states (n, D), and queries (n, H · E) into the history. parent, x: as of `step`."""
        layer = self.decoder.stack()[0]
        x = self._own(0, layer, x, *self._extend(level, parent))
        return x, layer.cross.query(layer.norm(x))

    def _extend(self, level: int, parent: Tensor) -> tuple[list[Tensor], Tensor | None]:
        """The numbers of n new prefixes' ancestors per level before, (n,) each, and the biases of their levels."""
        if level == len(self.levels):
            self.levels.append(_Level(len(self.memory)))
        ancestors, at = list[Tensor](), parent
        for before in reversed(self.levels[:level]):
            ancestors.insert(0, at)
            at = before.parents.all()[at]
        self.levels[level].parents.add(parent)
        if self.decoder.relative is None:
            return ancestors, None
        return ancestors, self.decoder.relative(torch.arange(-level, 1, device=parent.device).unsqueeze(0))

    def _history(
        self, number: int, layer: DecoderLayer, x: Tensor, places: _Places, query: Tensor | None = None
    ) -> Tensor:
        """The cross-attention of x (n, D). query: as of `before_history`, None: made here."""
        attention, (key, value) = layer.cross, places.of_users(self.memory[number])
        query = attention.query(layer.norm(x)) if query is None else query
        query = places.spread(query).unflatten(2, (attention.heads, -1)).transpose(1, 2)
        users, heads, _, width = query.shape
        flat = query.reshape(users * heads, -1, width)
        key, value = key.flatten(0, 1), value.flatten(0, 1)
        logits = torch.baddbmm(flat.new_empty(1), flat, key.transpose(1, 2), beta=0, alpha=attention.scale).float()
        if self.hidden is not None:
            (hidden,) = places.of_users((self.hidden,))
            logits.view(users, heads, -1, logits.shape[2]).add_(hidden)
        mixed = torch.bmm(logits.softmax(2).to(value.dtype), value)
        return x + attention.out(places.collect(mixed.unflatten(0, (users, heads)).transpose(1, 2).flatten(2)))

    def _own(self, number: int, layer: DecoderLayer, x: Tensor, ancestors: list[Tensor], bias: Tensor | None) -> Tensor:
        """The self-attention of x (n, D). With so few keys, products of elements are faster than matrix products."""
        attention, normed = layer.own.attention, layer.own.norms[0](x)
        newest = attention.key_value(normed).unflatten(1, (2, -1))
        self.levels[len(ancestors)].keep(number, newest)
        if not ancestors:
            return x + attention.out(newest[:, 1])
        before = [self.levels[at].kept(number, rows) for at, rows in enumerate(ancestors)]
        tokens = [*before, newest.unbind(1)]
        query, heads = attention.query(normed), attention.heads
        parts, ones = (-1, query.shape[1] // heads), query.new_ones(query.shape[1] // heads)
        logits = torch.stack([torch.mv((query * key).view(parts), ones) for key, _ in tokens]).float()
        logits = logits.view(len(tokens), -1, heads) * attention.scale
        if bias is not None:
            logits = logits + bias.squeeze(1).T.unsqueeze(1)
        weights = logits.softmax(0).to(query.dtype).view(len(tokens), -1, 1)
        mixed = weights[0] * tokens[0][1].reshape(parts)
        for weight, (_, value) in zip(weights[1:], tokens[1:], strict=True):
            mixed = mixed.addcmul_(weight, value.reshape(parts))
        return x + attention.out(mixed.view_as(query))


class _Level:
    """The prefixes of a level, in the order in which they were decoded: their parents, and per layer the keys and
    values (n, H · E) of their last tokens."""

    def __init__(self, layers: int) -> None:
        self.parents, self.tokens = _Rows(), [(_Rows(), _Rows()) for _ in range(layers)]

    def keep(self, layer: int, tokens: Tensor) -> None:
        """Add the tokens (n, 2, H · E) of the newest prefixes."""
        for rows, added in zip(self.tokens[layer], tokens.unbind(1), strict=True):
            rows.add(added)

    def kept(self, layer: int, at: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values (n, H · E) of prefixes (n,)."""
        key, value = (rows.all().index_select(0, at) for rows in self.tokens[layer])
        return key, value


class _Rows:
    """A tensor that grows, with twice the room each time."""

    def __init__(self) -> None:
        self.room, self.size = torch.empty(0), 0

    def add(self, rows: Tensor) -> None:
        need = self.size + len(rows)
        if need > len(self.room):
            larger = rows.new_empty(max(need, 2 * self.size), *rows.shape[1:])
            if self.size:
                larger[: self.size] = self.room[: self.size]
            self.room = larger
        self.room[self.size : need] = rows
        self.size = need

    def all(self) -> Tensor:
        return self.room[: self.size]


class _Places:
    """Where n prefixes stand in a grid (P, R) of the users who have some, or of all users, if most do."""

    def __init__(self, users: Tensor, of: int) -> None:
        count = torch.bincount(users, minlength=of)
        some, self.deepest = count > 0, int(count.max())
        self.users = None if 2 * int(some.sum()) > of else some.nonzero()[:, 0]
        self.size = of
        if self.users is not None:
            users, self.size, count = (some.cumsum(0) - 1)[users], len(self.users), count[self.users]
        # Where every user has as many prefixes, they are the grid.
        self.at = None
        if len(users) != self.size * self.deepest:
            first = count.cumsum(0) - count
            self.at = users * self.deepest + torch.arange(len(users), device=users.device) - first[users]

    def of_users(self, values: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Values of the users (B, …) -> (P, …)."""
        return values if self.users is None else tuple(each[self.users] for each in values)

    def spread(self, x: Tensor) -> Tensor:
        """x (n, D) -> (P, R, D), 0 where there is nothing."""
        if self.at is not None:
            x = x.new_zeros(self.size * self.deepest, x.shape[1]).index_copy_(0, self.at, x)
        return x.view(self.size, self.deepest, -1)

    def collect(self, x: Tensor) -> Tensor:
        """x (P, R, D) -> (n, D)."""
        x = x.flatten(0, 1)
        return x if self.at is None else x.index_select(0, self.at)
