"""Transformer parts shared by all models. B batch, Q queries, K keys, H heads, D width, E width of a head."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from bbqrec_cli.models.packing import Grid

INIT_STD = 0.02
"""Standard deviation of every embedding at the start; N(0, 1) tables drown the items (the paper uses .01)."""


def embedding(rows: int, width: int, std: float = INIT_STD) -> nn.Embedding:
    """A table that starts small."""
    table = nn.Embedding(rows, width)
    nn.init.normal_(table.weight, std=std)
    return table


class NamedModules(nn.Module):
    """Modules by names of any kind, such as those of features: 'type' and 'a.b', too, which no module may be called."""

    def __init__(self, modules: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.names = tuple(modules)
        for name, module in modules.items():
            self.add_module(_spelled(name), module)

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, name: str) -> nn.Module:
        module = self._modules[_spelled(name)]
        assert module is not None
        return module


def _spelled(name: str) -> str:
    """The name of a module within another: plain names as they are."""
    return f"_{name.replace('.', '_dot_')}" if "." in name or name in _TAKEN else name


_TAKEN = frozenset({*dir(nn.Module()), "names"})


class Dropout(nn.Module):
    """Dropout whose mask costs a random byte an element on the CPU; torch's own draws a float (a fifth of a step)."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.threshold = round(p * 256)

    def forward(self, x: Tensor) -> Tensor:
        """Each element is zero with probability p (in steps of 1/256), else divided by what is kept."""
        if not self.training or not self.threshold:
            return x
        kept = 1 - self.threshold / 256
        if x.device.type != "cpu":
            return nn.functional.dropout(x, 1 - kept)
        # Bits 0–62 are random: the eighth byte of each draw holds seven of them, so it is not used.
        draws = torch.empty(-(-x.numel() // 7), dtype=torch.int64).random_()
        mask = draws.view(torch.uint8).view(-1, 8)[:, :7].reshape(-1)[: x.numel()].view(x.shape) >= self.threshold
        return x * mask.to(x.dtype).mul_(1 / kept)


class Attention(nn.Module):
    """Multi-head attention with a boolean mask (True = may look). The product is written out: on CPUs in bfloat16 that
    is faster than `scaled_dot_product_attention` with a mask, and subclasses reweight values.

    Args:
        head_width: E, the width of a head; 0: D/H.
    """

    def __init__(self, width: int, *, heads: int, dropout: float, head_width: int = 0, bias: bool = True) -> None:
        super().__init__()
        if not head_width and width % heads:
            raise ValueError(f"width {width} is not a multiple of {heads} heads")
        self.heads, inner = heads, heads * (head_width or width // heads)
        self.scale = (inner // heads) ** -0.5
        self.query, self.key_value = (nn.Linear(width, n * inner, bias=bias) for n in (1, 2))
        self.out = nn.Linear(inner, width, bias=bias)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor, context: Tensor, mask: Tensor, **extra: Any) -> Tensor:
        """x (B, Q, D), context (B, K, D), mask broadcastable to (B, Q, K) -> (B, Q, D); with a `grid` among the extra,
        x and context are packed (P, D), and so is the result."""
        return self.attend(x, self.keys_values(context, extra.get("grid")), mask, **extra)

    def keys_values(self, context: Tensor, grid: Grid | None = None) -> Tensor:
        """What can be kept of a context that is looked at again. (B, K, D) -> (2, B, H, K, E)."""
        both = self.key_value(context)
        both = grid.spread(both) if grid else both
        return both.unflatten(2, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)

    def attend(
        self, x: Tensor, context: Tensor, mask: Tensor, *, bias: Tensor | None = None, grid: Grid | None = None,
        **extra: Tensor,
    ) -> Tensor:  # fmt: skip
        """As `forward`, from the context's `keys_values`. bias: added to the logits (B, H, Q, K)."""
        query = self.query(x)
        query = (grid.spread(query) if grid else query).unflatten(2, (self.heads, -1)).transpose(1, 2)
        key, value = context
        logits = query @ key.transpose(2, 3) * self.scale
        if bias is not None:
            logits = logits + bias
        # A row that may look nowhere (padding) gets even weights instead of NaN; nobody reads it.
        weights = logits.float().masked_fill(~mask.unsqueeze(1), -1e9).softmax(-1).to(value.dtype)
        mixed = self.mix(self.dropout(weights), value, **extra).transpose(1, 2).flatten(2)
        return self.out(grid.pack(mixed) if grid else mixed)

    def mix(self, weights: Tensor, value: Tensor, **extra: Tensor) -> Tensor:
        """weights (B, H, Q, K), value (B, H, K, E) -> (B, H, Q, E)."""
        return weights @ value


class Layer(nn.Module):
    """Transformer layer: self-attention and feed-forward. Norms stand before each, with `post_norm` after each sum."""

    def __init__(
        self,
        width: int,
        *,
        dropout: float,
        inner: int,
        heads: int = 1,
        attention: Attention | None = None,
        post_norm: bool = False,
    ) -> None:
        super().__init__()
        self.post_norm = post_norm
        self.attention = attention or Attention(width, heads=heads, dropout=dropout)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.feed_forward: nn.Module = nn.Sequential(nn.Linear(width, inner), nn.GELU(), nn.Linear(inner, width))
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor, **extra: Any) -> Tensor:
        """x (B, Q, D), mask broadcastable to (B, Q, Q); extra goes to the attention."""
        if self.post_norm:
            x = self.norms[0](x + self.dropout(self.attention(x, x, mask, **extra)))
            return self.norms[1](x + self.dropout(self.feed_forward(x)))
        return self.feed(self.look(x, mask, **extra))

    def look(self, x: Tensor, mask: Tensor, **extra: Any) -> Tensor:
        """The first half, self-attention, with the norm before it; see `forward`."""
        normed = self.norms[0](x)
        return x + self.dropout(self.attention(normed, normed, mask, **extra))

    def feed(self, x: Tensor) -> Tensor:
        """The second half, the feed-forward."""
        return x + self.dropout(self.feed_forward(self.norms[1](x)))


class QueryNormLayer(Layer):
    """The layer of SASRec's own program (Kang and McAuley 2018), as in RecTools: keys and values are not normed, and
    what is added to is the normed input; ReLU, with dropout inside the feed-forward and none on the attention's result.
    """

    def __init__(self, width: int, *, dropout: float, inner: int, heads: int = 1) -> None:
        super().__init__(width, heads=heads, dropout=dropout, inner=inner)
        self.feed_forward = nn.Sequential(nn.Linear(width, inner), nn.ReLU(), Dropout(dropout), nn.Linear(inner, width))

    def look(self, x: Tensor, mask: Tensor, **extra: Any) -> Tensor:
        """See `Layer.look`."""
        query = self.norms[0](x)
        return query + self.attention(query, x, mask, **extra)

    def feed(self, x: Tensor) -> Tensor:
        """See `Layer.feed`."""
        normed = self.norms[1](x)
        return normed + self.dropout(self.feed_forward(normed))


class CausalEncoder(nn.Module):
    """SASRec's backbone (Kang and McAuley 2018, pre-norm): positions, causal layers, a final norm.

    Args:
        post_norm: as in BERT: the norm is that of the input, and each layer ends with its own.
        query_norm: its layers are `QueryNormLayer`s.
    """

    def __init__(
        self,
        width: int,
        *,
        layers: int,
        heads: int,
        dropout: float,
        history: int,
        inner: int | None = None,
        post_norm: bool = False,
        query_norm: bool = False,
        init_std: float = INIT_STD,
    ) -> None:
        super().__init__()
        self.post_norm = post_norm
        self.positions = embedding(history, width, init_std)
        self.dropout = Dropout(dropout)
        layer = QueryNormLayer if query_norm else partial(Layer, post_norm=post_norm)
        self.layers = nn.ModuleList(
            layer(width, heads=heads, dropout=dropout, inner=inner or 4 * width) for _ in range(layers)
        )
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, T, D), padded on the right -> states (B, T, D); position t sees 0…t only."""
        steps = x.shape[1]
        return self.through(x, torch.ones(steps, steps, dtype=torch.bool, device=x.device).tril().unsqueeze(0))

    def through(self, x: Tensor, mask: Tensor) -> Tensor:
        """x (B, T, D); mask broadcastable to (B, T, T): what each position sees -> states (B, T, D)."""
        x = x + self.positions.weight[: x.shape[1]]
        x = self.dropout(self.norm(x) if self.post_norm else x)
        for layer in self.layers:
            x = layer(x, mask)
        return x if self.post_norm else self.norm(x)


class BidirectionalEncoder(CausalEncoder):
    """BERT's encoder, as in BERT4Rec (Sun et al. 2019, section 3): positions, a norm, post-norm layers.

    Args:
        length: the longest sequence, with what stands for masked items.
    """

    def __init__(self, width: int, *, layers: int, heads: int, dropout: float, length: int) -> None:
        super().__init__(width, layers=layers, heads=heads, dropout=dropout, history=length, post_norm=True)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:  # type: ignore[override]
        """x (B, T, D), padded on the right; mask (B, T) bool, True where there is an item -> states (B, T, D)."""
        return self.through(x, mask.unsqueeze(1))
