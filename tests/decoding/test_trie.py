"""The trie in arrays against one of nested dictionaries."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from bbqrec_cli.decoding.trie import Trie

SHAPES = st.tuples(st.integers(1, 20), st.integers(1, 4), st.integers(1, 3))


def prefixes(codes: np.ndarray) -> list[dict[tuple, list[int]]]:
    """For each depth: prefix of code tuples -> rows of its items, prefixes in order."""
    found = []
    for depth in range(codes.shape[1] + 1):
        nodes: dict[tuple, list[int]] = {}
        for row, item in enumerate(codes):
            nodes.setdefault(tuple(map(tuple, item[:depth].tolist())), []).append(row)
        found.append(dict(sorted(nodes.items())))
    return found


@settings(deadline=None, max_examples=80)
@given(codes=SHAPES.flatmap(lambda shape: arrays(np.uint16, shape, elements=st.integers(0, 3))))
def test_it_is_the_trie_of_dictionaries(codes):
    trie, expected = Trie(codes), prefixes(codes)
    for depth, nodes in enumerate(expected):
        names = list(nodes)
        bounds = trie.bounds(depth).tolist()
        assert len(bounds) == len(names) + 1
        for number, name in enumerate(names):
            run = trie.order[bounds[number] : bounds[number + 1]].tolist()
            # Colliding items stand in the order of their rows.
            assert (run if depth == codes.shape[1] else sorted(run)) == nodes[name]
            assert trie.node(depth)[nodes[name]].eq(number).all()
        if depth:
            assert [tuple(c) for c in trie.codes(depth - 1).tolist()] == [name[-1] for name in names]
        if depth < codes.shape[1]:
            children, below = trie.child_bounds(depth).tolist(), list(expected[depth + 1])
            for number, name in enumerate(names):
                assert [child[:-1] for child in below[children[number] : children[number + 1]]] == [name] * (
                    children[number + 1] - children[number]
                )
            assert children[0] == 0
            assert children[-1] == len(below)
    assert trie.order[trie.place].tolist() == list(range(len(codes)))


def test_codes_of_sixteen_bits_keep_their_order():
    trie = Trie(np.array([65535, 0, 32768], dtype=np.uint16).reshape(3, 1, 1))
    assert trie.order.tolist() == [1, 2, 0]
    assert trie.codes(0).flatten().tolist() == [0, 32768, 65535]


def test_it_moves_with_the_model_and_is_not_among_the_weights():
    trie = Trie(np.zeros((3, 2, 1), dtype=np.uint16))
    assert not trie.state_dict()
    assert trie.to("meta").order.device.type == "meta"
    with pytest.raises(AttributeError):
        trie.codes(2)
    assert all(buffer.dtype == torch.int64 for buffer in trie.buffers())
