"""Every registered tokenizer against the same checks. A new one needs no line here: a registry line is enough.

BBQREC_TEST_DEVICE=cuda runs them on a GPU (`make gpu-check` does).
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import interrupted_in

from bbqrec_cli import hdf5
from bbqrec_cli.errors import DataError, InterruptedRunError, MissingPackageError, UsageError
from bbqrec_cli.records import Catalogue, Feature, Features, Sequences, Tokens, TrainedModel
from bbqrec_cli.stages.tokenize import TokenizeConfig, run
from bbqrec_cli.tokenizers.assignment.config import AssignmentResult
from bbqrec_cli.tokenizers.base import ContentTokenizer, SampleTokenizer
from bbqrec_cli.tokenizers.registry import TOKENIZERS, build_tokenizer, tokenizer_config
from bbqrec_cli.training import trainer

ITEMS, USERS = 12, 30
DEVICE = torch.device(os.environ.get("BBQREC_TEST_DEVICE", "cpu"))
LACKING = {"text": 10, "image": 5}
"""The item without it (conftest)."""
SMALL = {
    "levels": 2, "codebook_size": 12, "dim": 8, "hidden": 16, "epochs": 6, "warmup_epochs": 3, "batch_size": 10,
    "learning_rate": 0.01, "dropout": 0.3, "sequence_layers": 1, "sequence_heads": 2,
}  # fmt: skip
"""Each tokenizer takes what it has of it."""


@pytest.fixture(scope="module", params=TOKENIZERS)
def method(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def index(tmp_path_factory) -> Path:
    """For those that read somebody else's codes."""
    path = tmp_path_factory.mktemp("index") / "index.json"
    path.write_text(json.dumps({f"i{i}": [f"<a_{i // 4}>", f"<b_{i % 4}>"] for i in range(ITEMS)}))
    return path


def sasrec(path: Path, catalogue: Catalogue) -> Path:
    """For those that follow a sequence model: a vector for each item."""
    table = np.random.default_rng(1).standard_normal((ITEMS, 6)).astype(np.float32)
    made = TrainedModel(catalogue=catalogue, name="sasrec", settings={}, weights={"table.weight": table})
    hdf5.write_model(path, made, config={})
    return path


def known(method: str) -> set[str]:
    return {f.name for f in dataclasses.fields(TOKENIZERS.config(method))}


@pytest.fixture(scope="module")
def followed(tmp_path_factory, catalogue) -> Path:
    return sasrec(tmp_path_factory.mktemp("sasrec") / "sasrec.h5", catalogue)


@pytest.fixture(scope="module")
def options(method, index, followed) -> dict[str, Any]:
    every = {**SMALL, "index": [str(index)], "collaborative": str(followed)}
    return {k: v for k, v in every.items() if k in known(method)}


@pytest.fixture(scope="module")
def config(method, options, files) -> TokenizeConfig:
    return TokenizeConfig(
        features=files["features"], output=Path("unset"), method=method, options=options, device=str(DEVICE),
        precision="fp32",
    )  # fmt: skip


def tokenize(config: TokenizeConfig, output: Path, **changes: Any) -> tuple[Tokens, AssignmentResult]:
    result = run(dataclasses.replace(config, output=output, **changes))
    return hdf5.read_tokens(output), result


@pytest.fixture(scope="module")
def made(config, method, tmp_path_factory) -> tuple[Tokens, AssignmentResult]:
    return tokenize(config, tmp_path_factory.mktemp(method) / "tokens.h5")


VALIDATION = ("recall@10", "ndcg@10")


def learnt(history: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What the epochs computed, without what they only measured."""
    return [{k: v for k, v in row.items() if k not in (*VALIDATION, "seconds")} for row in history]


def assert_same(one: Tokens, other: Tokens) -> None:
    if one.history and DEVICE.type != "cpu":
        # Sums in no fixed order: what is learnt agrees, its last digits and with them some codes do not.
        losses = [[row["loss"] for row in each.history] for each in (one, other)]
        assert losses[0] == pytest.approx(losses[1], rel=0.05)
        return
    np.testing.assert_array_equal(one.codes.codes, other.codes.codes)
    for name in ("codebooks", "item_vectors"):
        mine, theirs = getattr(one.codes, name), getattr(other.codes, name)
        assert (mine is None) == (theirs is None)
        if mine is not None:
            np.testing.assert_array_equal(mine, theirs, err_msg=name)
    assert learnt(one.history) == learnt(other.history)


def test_the_tokens_file(made, config, catalogue, options):
    tokens, result = made
    codes = tokens.codes
    assert codes.codes.dtype == np.uint16
    assert codes.codes.shape == (ITEMS, codes.levels, len(codes.modalities))
    assert codes.codes.max() < codes.codebook_size
    assert len(set(codes.modalities)) == len(codes.modalities)
    assert codes.method == config.method
    assert (tokens.catalogue.item_ids, tokens.catalogue.titles) == (catalogue.item_ids, catalogue.titles)
    np.testing.assert_array_equal(tokens.catalogue.sequences.items, catalogue.sequences.items)
    about = hdf5.describe(result.output)
    assert about["config"]["method"] == config.method
    assert set(about["config"]["options"]) == known(config.method), "defaults are recorded too"
    assert about["config"]["options"].items() >= options.items()
    assert about["config"]["colliding_items"] == {"before": result.colliding_items, "after": result.colliding_items}
    assert about["parents"][0]["sha256"] == hdf5.sha256(config.features)
    assert not result.output.with_name("tokens.h5.checkpoint").exists()


def test_which_items_have_which_signal(made):
    """An item without a text has codes for it all the same; `present` tells that they say nothing."""
    codes = made[0].codes
    if codes.present is None:
        assert codes.codebooks is None, "only codes that did not come of features know nothing of it"
        return
    assert codes.present.shape == (ITEMS, len(codes.modalities))
    for signal, name in enumerate(codes.modalities):
        lacking = set(np.flatnonzero(~codes.present[:, signal]))
        assert lacking == {LACKING[name]} if name in LACKING else lacking <= set(LACKING.values())
        if codes.item_vectors is not None:
            zero = ~codes.item_vectors.reshape(ITEMS, len(codes.modalities), -1)[:, signal].any(axis=1)
            assert lacking == set(np.flatnonzero(zero))


def test_the_file_gives_its_items_their_codes_again(config, features, method, options, tmp_path):
    """What new items get their codes by: on the old ones it is what they have, with bits to spare for nothing."""
    tokens, _ = tokenize(config, tmp_path / "tokens.h5", on_collision="share")
    tokenizer = build_tokenizer(method, tokenizer_config(method, options))
    if not isinstance(tokenizer, ContentTokenizer):
        assert tokens.encoder is None
        return
    found = tokenizer.restore(tokens.codes, tokens.encoder, DEVICE)(features.features)
    assert set(tokens.encoder.inputs) <= set(features.features)
    content = [signal for signal, name in enumerate(tokens.codes.modalities) if name != "id"]
    assert content
    np.testing.assert_array_equal(found.codes[:, :, content], tokens.codes.codes[:, :, content])
    np.testing.assert_array_equal(found.present[:, content], tokens.codes.present[:, content])
    shape = (ITEMS, len(tokens.codes.modalities), -1)
    vectors, expected = found.vectors.reshape(shape), tokens.codes.item_vectors.reshape(shape)
    np.testing.assert_array_equal(vectors[:, content], expected[:, content])
    learnt = [signal for signal in range(shape[1]) if signal not in content]
    assert not found.present[:, learnt].any(), "an ID is learnt, nobody can know that of a new item"
    assert not vectors[:, learnt].any()


def test_a_sample_is_enough_or_refused(made, config, method, options, tmp_path):
    """All items get codes of the same kind; as many items as there are give the codes of them all."""
    if not isinstance(build_tokenizer(method, tokenizer_config(method, options)), SampleTokenizer):
        with pytest.raises(UsageError, match=f"--fit-items .* {method}"):
            tokenize(config, tmp_path / "t.h5", fit_items=6)
        return
    few, result = tokenize(config, tmp_path / "few.h5", fit_items=6)
    assert few.codes.codes.shape == made[0].codes.codes.shape
    assert few.codes.item_vectors.shape == made[0].codes.item_vectors.shape
    assert len(few.history) == len(made[0].history)
    assert result.items == ITEMS
    np.testing.assert_array_equal(few.codes.present, made[0].codes.present)
    assert_same(made[0], tokenize(config, tmp_path / "all.h5", fit_items=ITEMS)[0])


def test_the_result(made):
    tokens, result = made
    said = result.to_json()
    assert said["levels"] == tokens.codes.levels
    assert said["codebook_size"] == tokens.codes.codebook_size
    assert said["signals"] == list(tokens.codes.modalities)
    assert said["items"] == ITEMS
    assert said["epochs"] == len(tokens.history)
    distinct, counts = np.unique(tokens.codes.codes.reshape(ITEMS, -1), axis=0, return_counts=True)
    assert said["colliding_items"] == ITEMS - (counts == 1).sum()
    assert len(distinct) == len(counts)


def test_every_epoch_has_its_figures(made, options):
    tokens, _ = made
    if not tokens.history:
        assert "epochs" not in options, "nothing is trained"
        return
    assert [row["epoch"] for row in tokens.history] == list(range(1, SMALL["epochs"] + 1))
    assert all(math.isfinite(row["loss"]) and row["seconds"] > 0 for row in tokens.history)
    assert tokens.history[-1]["reconstruction"] < tokens.history[0]["reconstruction"]
    for signal in tokens.codes.modalities:
        for level in range(1, tokens.codes.levels + 1):
            for row in tokens.history[SMALL["warmup_epochs"] :]:
                used = row[f"usage/{signal}/{level}"]
                assert 1 <= row[f"perplexity/{signal}/{level}"] <= used + 0.01
    assert tokens.history[-1]["colliding_items"] == made[1].colliding_items


def test_twelve_codes_tell_twelve_items_apart(made):
    """All contents differ, so k-means gives each item a code; only the one without content might share one."""
    tokens, result = made
    if tokens.history:
        assert result.colliding_items == 0


def test_vectors_are_sums_of_codes(made):
    """Eq. 7 and 10; zeros where the item lacks the signal, and only there."""
    codes = made[0].codes
    if codes.codebooks is None:
        assert codes.item_vectors is None
        return
    books, signals = codes.codebooks, np.arange(len(codes.modalities))
    assert books.shape[0] in (1, len(signals))
    own = signals if len(books) > 1 else np.zeros_like(signals)
    expected = np.zeros((ITEMS, len(signals), books.shape[3]), dtype=np.float32)
    for level in range(codes.levels):
        expected += books[own, level, codes.codes[:, level].astype(int)]
    vectors = codes.item_vectors.reshape(expected.shape)
    absent = ~vectors.any(axis=2)
    np.testing.assert_array_equal(vectors, np.where(absent[:, :, None], 0, expected))
    assert set(np.flatnonzero(absent.any(axis=1))) <= set(LACKING.values())
    for signal, name in enumerate(codes.modalities):
        assert absent[:, signal].sum() <= 1
        assert name not in LACKING or absent[LACKING[name], signal]


def test_a_seed_gives_one_result(made, config, tmp_path):
    same, _ = tokenize(config, tmp_path / "same.h5")
    assert_same(made[0], same)
    other, _ = tokenize(config, tmp_path / "other.h5", seed=1)
    if made[0].codes.codebooks is not None:
        assert not np.array_equal(made[0].codes.codebooks, other.codes.codebooks)


def written(path: Path, base: Features, **changes: Any) -> Path:
    hdf5.write_features(path, dataclasses.replace(base, **changes), config={})
    return path


def test_no_leak(made, config, features, tmp_path):
    """Other validation and test items for every user: nothing that is learnt moves, only what is measured."""
    walks = [walk.tolist() for walk in features.catalogue.sequences]
    other = [[*walk[:-2], (walk[-2] + 6) % ITEMS, (walk[-1] + 5) % ITEMS] for walk in walks]
    assert all(a[-2:] != b[-2:] for a, b in zip(walks, other, strict=True))
    catalogue = dataclasses.replace(features.catalogue, sequences=Sequences.from_lists(other))
    found, _ = tokenize(config, tmp_path / "t.h5", features=written(tmp_path / "f.h5", features, catalogue=catalogue))
    assert_same(made[0], found)
    measured = [[row[name] for row in each.history if name in row] for each in (made[0], found) for name in VALIDATION]
    if any(measured):
        assert measured[:2] != measured[2:], "these do look at the validation items"


def test_rows_of_absent_features_say_nothing(made, config, features, tmp_path):
    filled = {
        name: Feature(values=np.where(f.present[:, None], f.values, np.float32(77)), present=f.present)
        for name, f in features.features.items()
    }
    found, _ = tokenize(config, tmp_path / "t.h5", features=written(tmp_path / "f.h5", features, features=filled))
    assert_same(made[0], found)


def test_items_that_nobody_took_get_codes(config, features, tmp_path):
    walks = [[item for item in walk.tolist() if item != 11] for walk in features.catalogue.sequences]
    catalogue = dataclasses.replace(features.catalogue, sequences=Sequences.from_lists(walks))
    options = dict(config.options)
    if "collaborative" in options:
        options["collaborative"] = str(sasrec(tmp_path / "m.h5", catalogue))
    changed = written(tmp_path / "f.h5", features, catalogue=catalogue)
    found, _ = tokenize(config, tmp_path / "t.h5", features=changed, options=options)
    assert len(found.codes.codes) == ITEMS


def interrupt(config: TokenizeConfig, output: Path, at: int) -> bool:
    """Stop in epoch `at` (from 0), after what is done before it, k-means for one; whether there was such an epoch."""
    with interrupted_in(at):
        if "epochs" not in known(config.method):
            tokenize(config, output)
            return False
        with pytest.raises(InterruptedRunError, match=f"{at} of {SMALL['epochs']} epochs are saved"):
            tokenize(config, output)
    assert not output.exists()
    return True


@pytest.mark.parametrize("at", [1, SMALL["warmup_epochs"], SMALL["warmup_epochs"] + 1, SMALL["epochs"] - 1])
def test_resumed_is_uninterrupted(made, config, tmp_path, at):
    """In the warm-up, right after k-means, after the first epoch with codebooks, in the last one."""
    output = tmp_path / "tokens.h5"
    if not interrupt(config, output, at):
        assert not made[0].history, "only what is not trained can not be interrupted"
        return
    resumed, _ = tokenize(config, output, resume=True)
    assert_same(made[0], resumed)
    ndcg = [[row.get("ndcg@10") for row in each.history] for each in (resumed, made[0])]
    assert ndcg[0] == ndcg[1] or DEVICE.type != "cpu"
    assert not output.with_name("tokens.h5.checkpoint").exists()


@pytest.mark.parametrize("at", [0, SMALL["warmup_epochs"]])
def test_resumed_within_an_epoch(config, tmp_path, monkeypatch, at):
    """In the first epoch, and in the one before which codebooks are made."""
    monkeypatch.setattr(trainer, "SEGMENT", 1)
    straight, _ = tokenize(config, tmp_path / "straight.h5")
    if not straight.history:
        return
    output = tmp_path / "tokens.h5"
    said = f"{at} of {SMALL['epochs']} epochs and 1 steps of the next are saved"
    with interrupted_in(at, steps=1), pytest.raises(InterruptedRunError, match=said):
        tokenize(config, output)
    resumed, _ = tokenize(config, output, resume=True)
    assert_same(straight, resumed)


def test_what_a_checkpoint_must_agree_with(made, config, features, tmp_path):
    output = tmp_path / "tokens.h5"
    if not interrupt(config, output, 4):
        return
    with pytest.raises(DataError, match="seed was 0 and is 1"):
        tokenize(config, output, resume=True, seed=1)
    with pytest.raises(DataError, match="codebook_size was 12 and is 13"):
        tokenize(config, output, resume=True, options=config.options | {"codebook_size": 13})
    changed = written(tmp_path / "other.h5", features, features={"text": features.features["text"]})
    with pytest.raises(DataError, match="sha256 was"):
        tokenize(config, output, resume=True, features=changed)
    moved = tmp_path / "moved.h5"
    moved.write_bytes(config.features.read_bytes())
    resumed, _ = tokenize(config, output, resume=True, features=moved, on_collision="suffix", fail_on_collapse=True)
    assert_same(made[0], resumed)


def test_without_faiss_nothing_is_begun(made, config, monkeypatch, tmp_path):
    if made[0].codes.codebooks is None:
        return
    monkeypatch.setitem(sys.modules, "faiss", None)
    monkeypatch.setattr(trainer, "_steps", lambda *_: pytest.fail("it was trained"))
    with pytest.raises(MissingPackageError):
        tokenize(config, tmp_path / "tokens.h5")


def test_signals_that_are_not_there(method, config, tmp_path):
    if "signals" not in known(method):
        return
    with pytest.raises(DataError, match=r"'imgae'; the file has .*did you mean 'image'"):
        tokenize(config, tmp_path / "t.h5", options=config.options | {"signals": ("imgae",)})


def test_the_command_knows_it(method, options):
    checked = tokenizer_config(method, options)
    assert TOKENIZERS.about(method)
    assert callable(build_tokenizer(method, checked).fit)
