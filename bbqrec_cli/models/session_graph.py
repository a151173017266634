"""SR-GNN's sequence encoder (Wu et al., AAAI 2019), with a state at every position.

B users, T items of history, V width. A position's graph holds the items up to it only: its nodes are the distinct
items, its edges lead from each item to the next one.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bbqrec_cli.data.splits import PAD
from bbqrec_cli.models.layers import Dropout


class SessionGraphEncoder(nn.Module):
    """A gated graph network over each prefix's graph; the state joins the last item and an attention over all.

    Args:
        width: V, of the item vectors and of the states.
        steps: steps of message passing: how far a node sees along the edges.
    """

    def __init__(self, width: int, *, steps: int, dropout: float) -> None:
        super().__init__()
        self.steps, self.dropout = steps, Dropout(dropout)
        self.incoming, self.outgoing = nn.Linear(width, width), nn.Linear(width, width)
        self.gates_of_message, self.gates_of_node = nn.Linear(2 * width, 3 * width), nn.Linear(width, 3 * width)
        self.query, self.key = nn.Linear(width, width), nn.Linear(width, width)
        self.energy = nn.Linear(width, 1, bias=False)
        self.out = nn.Linear(2 * width, width)

    def forward(self, vectors: Tensor, items: Tensor) -> Tensor:
        """vectors (B, T, V) of items (B, T), padded on the right -> (B, T, V); position t sees 0…t only."""
        node, incoming, outgoing = session_graphs(items)
        length = items.shape[1]
        # One row per prefix: (B, T, T, V), the node of each position; positions after the prefix have no edges.
        state = self.dropout(vectors).unsqueeze(1).expand(-1, length, -1, -1)
        for _ in range(self.steps):
            message = torch.cat([incoming @ self.incoming(state), outgoing @ self.outgoing(state)], dim=3)
            state = self.gated(message, state)
        # Positions of the same item share the node of the first.
        own = node[:, None, :, None].expand(-1, length, -1, state.shape[3])
        return self.readout(state.gather(2, own))

    def gated(self, message: Tensor, state: Tensor) -> Tensor:
        """A gated recurrent unit: message (..., 2V), state (..., V) -> (..., V)."""
        of_message, of_node = self.gates_of_message(message).chunk(3, -1), self.gates_of_node(state).chunk(3, -1)
        reset, keep = (torch.sigmoid(a + b) for a, b in zip(of_message[:2], of_node[:2], strict=True))
        fresh = torch.tanh(of_message[2] + reset * of_node[2])
        return fresh + keep * (state - fresh)

    def readout(self, state: Tensor) -> Tensor:
        """state (B, T, T, V) of each prefix's positions -> (B, T, V)."""
        length = state.shape[1]
        last = state.diagonal(dim1=1, dim2=2).transpose(1, 2)
        seen = torch.ones(length, length, dtype=torch.bool, device=state.device).tril()[None, :, :, None]
        weight = self.energy(torch.sigmoid(self.query(last).unsqueeze(2) + self.key(state)))
        whole = (weight * state).masked_fill(~seen, 0.0).sum(2)
        return self.out(self.dropout(torch.cat([whole, last], dim=2)))


def session_graphs(items: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The graphs of all prefixes of items (B, T).

    Returns:
        node (B, T): for each position, the first one with the same item; incoming, outgoing (B, T, T, T): for each
        prefix, its adjacency matrices, normalised over the predecessors and the successors of each node.
    """
    length = items.shape[1]
    node = (items.unsqueeze(2) == items.unsqueeze(1)).long().argmax(2)
    at = nn.functional.one_hot(node, length).float() * (items != PAD).unsqueeze(2)
    steps = at[:, :-1, :, None] * at[:, 1:, None, :]
    edges = nn.functional.pad(steps.cumsum(1), (0, 0, 0, 0, 1, 0))
    outgoing = edges / edges.sum(3, keepdim=True).clamp(min=1)
    incoming = edges.transpose(2, 3)
    return node, incoming / incoming.sum(3, keepdim=True).clamp(min=1), outgoing
