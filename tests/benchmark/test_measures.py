"""What `benchmark speed` divides by: the units of a round, counted where the work is done."""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path

import pytest
import torch

from bbqrec_cli import hdf5
from bbqrec_cli.benchmark.speed.measures import evaluation, quantizer, t5, training
from bbqrec_cli.data import batches
from bbqrec_cli.data.batches import Batch
from bbqrec_cli.evaluation import protocol
from bbqrec_cli.tokenizers.quantization.residual import ResidualQuantizer
from bbqrec_cli.training import trainer

SIZES = {"batch_size": 8, "width": 8, "heads": 2, "layers": 1}
OF_T5 = {**SIZES, "architecture": "t5", "decoder_layers": 1}
EVERYTHING = 1000
"""More steps than an epoch has batches, more users than there are."""


@pytest.fixture
def folder(tokens, tmp_path) -> Path:
    """IDs of two signals, and of one."""
    one = dataclasses.replace(
        tokens.codes, codes=tokens.codes.codes[:, :, :1], modalities=("id",), item_vectors=None, codebooks=None
    )
    hdf5.write_tokens(tmp_path / "several.h5", tokens, config={})
    hdf5.write_tokens(tmp_path / "one.h5", dataclasses.replace(tokens, codes=one), config={})
    return tmp_path


@pytest.fixture
def job(folder):
    return lambda **more: {"folder": str(folder), "ids": "one.h5", "threads": 1, "seed": 0, **more}


@pytest.fixture
def wanted(catalogue) -> Counter:
    """The items that are targets of an epoch: all but the first of a user, and the two last, which are held out."""
    return Counter(int(item) for walk in catalogue.sequences for item in walk[1:-2])


KINDS = {
    "sasrec": {"model": "sasrec", "options": {**SIZES, "history": 3}},
    "tiger": {"model": "tiger", "options": OF_T5},
    "causal": {"model": "tiger", "options": {**OF_T5, "architecture": "bbqrec", "masking": "causal"}},
    "bbqrec": {"model": "bbqrec", "ids": "several.h5", "options": {**SIZES, "decoder_layers": 1}},
}


@pytest.mark.parametrize("kind", KINDS)
def test_training_counts_targets(kind, job, wanted, monkeypatch):
    seen, step = list[torch.Tensor](), trainer.step

    def noted(task, run, batch, *more):
        seen.append(batch.targets[batch.targets >= 0])
        return step(task, run, batch, *more)

    monkeypatch.setattr(trainer, "step", noted)
    steps, about = training.own(job(**KINDS[kind], steps=EVERYTHING))
    assert about == {"whole": wanted.total()}
    assert steps() == wanted.total()
    assert Counter(torch.cat(seen).tolist()) == wanted
    assert len(seen) > 3
    seen.clear()
    steps, about = training.own(job(**KINDS[kind], steps=2))
    assert about == {"whole": wanted.total()}
    assert steps() == sum(map(len, seen)) < wanted.total()
    assert len(seen) == 2


def test_batches_are_spread_over_the_sizes_of_an_epochs():
    """Whatever their order; not the one with what is left."""
    lengths = [7, 3, 9, 1, 5, 2, 8, 4, 6]
    batches = [Batch(torch.zeros(2, length), torch.zeros(2, length)) for length in lengths]
    batches.insert(4, Batch(torch.zeros(1, 99), torch.zeros(1, 99)))
    for steps, expected in ((3, [2, 5, 8]), (1, [5]), (9, [*range(1, 10)])):
        assert [batch.items.shape[1] for batch in training.spread(batches, steps)] == expected
    assert training.spread(batches, 10) == batches


@pytest.mark.parametrize("shuffled", [False, True])
def test_hugging_faces_training_counts_targets(shuffled, job, wanted, codes, monkeypatch):
    transformers = pytest.importorskip("transformers")
    seen, forward = list[torch.Tensor](), transformers.T5ForConditionalGeneration.forward

    def noted(*arguments, **given):
        seen.append(given["labels"])
        return forward(*arguments, **given)

    steps, about = t5.training(job(options=OF_T5, shuffled=shuffled, steps=EVERYTHING))
    monkeypatch.setattr(transformers.T5ForConditionalGeneration, "forward", noted)
    assert about == {"whole": wanted.total()}
    assert steps() == wanted.total()
    item = {(1 + a, 5 + b): row for row, (a, b) in enumerate(codes.codes[:, :, 0].tolist())}
    assert Counter(item[tuple(labels)] for labels in torch.cat(seen).tolist()) == wanted
    assert sorted(len(each) for each in seen)[1:] == [8] * (len(seen) - 1)


def test_hugging_faces_input_tokens():
    """Item after item, each with its tokens in order; nothing where there is no item."""
    tokens = torch.tensor([[1, 5, 9], [2, 6, 10], [3, 7, 11]])
    inputs, mask = t5.read(tokens, torch.tensor([[2, 0], [1, -1]]))
    assert inputs.tolist() == [[3, 7, 11, 1, 5, 9], [2, 6, 10, 0, 0, 0]]
    assert mask.tolist() == [[1, 1, 1, 1, 1, 1], [1, 1, 1, 0, 0, 0]]


@pytest.mark.parametrize(("asked", "users"), [(12, 12), (EVERYTHING, 30)])
def test_evaluation_counts_users(asked, users, job, monkeypatch):
    """Both entrants rank as many as they say."""
    ranked, made = list[int](), batches.held_out_batches

    def noted(*arguments):
        for rows, batch in made(*arguments):
            ranked.append(len(batch.items))
            yield rows, batch

    for module in (batches, protocol):
        monkeypatch.setattr(module, "held_out_batches", noted)
    given = job(asked=asked, options={"width": 8, "heads": 2, "layers": 1})
    for measure in (evaluation.own, evaluation.plain):
        ranked.clear()
        assert measure(given)[0]() == users == sum(ranked)
    drawn = {**given, "drawn": 200, "asked": 7}
    assert evaluation.own(drawn)[0]() == evaluation.plain(drawn)[0]() == 7


def test_a_quantizer_counts_vectors_of_all_steps(job, monkeypatch):
    seen, forward = list[int](), ResidualQuantizer.forward

    def noted(self, vectors, *more, **given):
        seen.append(len(vectors))
        return forward(self, vectors, *more, **given)

    monkeypatch.setattr(ResidualQuantizer, "forward", noted)
    run, about = quantizer.own(job(codes=4, batch=20, steps=3))
    assert (run(), about, seen) == (60, {}, [20, 20, 20])


def test_the_other_quantizer_counts_alike(job, monkeypatch):
    theirs = pytest.importorskip("vector_quantize_pytorch").ResidualVQ
    seen, forward = list[int](), theirs.forward

    def noted(self, vectors, *more, **given):
        seen.append(vectors.shape[:-1].numel())
        return forward(self, vectors, *more, **given)

    monkeypatch.setattr(theirs, "forward", noted)
    run, about = quantizer.vector_quantize(job(codes=4, batch=20, steps=3))
    assert (run(), about, seen) == (60, {}, [20, 20, 20])
