"""What is tried for each model, and how models, recipes and fixed options become systems."""

from __future__ import annotations

import dataclasses
import typing
from dataclasses import dataclass
from typing import ClassVar

import pytest

from bbqrec_cli.config import MethodConfig, Range, check_value, option
from bbqrec_cli.errors import UsageError
from bbqrec_cli.models.options._training import GradientConfig
from bbqrec_cli.models.registry import MODELS
from bbqrec_cli.recipes import names, recipe
from bbqrec_cli.tuning.systems import make_systems, readable

TRAINED = [name for name in MODELS if issubclass(MODELS.config(name), GradientConfig)]
FOR_TRAIN = [name for name in names() if name not in ("bbqrec-paper",)]


@pytest.mark.parametrize("model", MODELS)
def test_every_value_passes_the_options_own_checks(model):
    (system,) = make_systems([model], [], {})
    cls, hints = MODELS.config(model), typing.get_type_hints(MODELS.config(model))
    fields = {f.name: f for f in dataclasses.fields(cls)}
    for name, search in system.space.items():
        ends = (search.low, search.high) if isinstance(search, Range) else search
        for value in ends:
            assert type(value) is hints[name] or hints[name] is float
            assert check_value(fields[name], hints[name], value, where="the space") == value
            resolved = system.options(readable(system.space, model, {name: value}))
            assert resolved[name] == pytest.approx(value) if hints[name] is float else resolved[name] == value
        if isinstance(search, Range):
            assert search.low < search.high
            assert search.low > 0 or not search.log
        else:
            assert len(set(search)) == len(search) > 1
    assert system.first == {name: getattr(cls(), name) for name in system.space}


@pytest.mark.parametrize("model", TRAINED)
def test_the_papers_widths_are_tried(model):
    (system,) = make_systems([model], [], {})
    assert {32, 64, 128, 256} <= set(system.space["width"])
    assert {"learning_rate", "dropout", "weight_decay"} <= system.space.keys()


@pytest.mark.parametrize("name", FOR_TRAIN)
def test_the_first_trial_of_a_recipe_is_the_recipe(name):
    (system,) = make_systems([], [name], {})
    resolved, own = system.options(system.first), recipe(name, "train")
    for key, value in own.items():
        assert key == "model" or resolved.get(key, value) == value
    assert system.model == own["model"]
    for key, search in system.space.items():
        value = system.first[key]
        assert search.low <= value <= search.high if isinstance(search, Range) else value in search


def test_what_is_given_is_not_tuned():
    sasrec, gru = make_systems(["sasrec", "gru4rec"], [], {"heads": 1, "epochs": 3, "hidden": 16})
    assert (sasrec.base, gru.base) == ({"heads": 1, "epochs": 3}, {"epochs": 3, "hidden": 16})
    assert "heads" not in sasrec.space
    assert "hidden" not in gru.space
    assert (sasrec.epochs, gru.epochs) == (3, 3)


@pytest.mark.parametrize(
    ("model", "fixed", "left_out"),
    [
        ("sasrec", {}, set()),
        ("sasrec", {"loss": "ce"}, {"negatives", "gbce_t"}),
        ("sasrec", {"loss": "sampled"}, {"gbce_t"}),
        ("sasrec", {"loss": "gbce"}, set()),
        ("bbqrec", {}, set()),
        ("bbqrec", {"variant": "inherit"}, {"similarity_buckets"}),
        ("bbqrec", {"variant": "no-similarity"}, {"similarity_buckets"}),
    ],
)
def test_what_has_no_effect_is_not_tried(model, fixed, left_out):
    (usual,), (system,) = make_systems([model], [], {}), make_systems([model], [], fixed)
    assert usual.space.keys() - system.space.keys() - fixed.keys() == left_out


def test_a_default_outside_the_usual_values_is_tried_too():
    (vq_rec,) = make_systems(["vq-rec"], [], {})
    assert 300 in vq_rec.space["width"]


def test_values_that_do_not_go_together_are_left_out():
    (system,) = make_systems(["sasrec"], [], {"width": 50})
    assert system.space["heads"] == (1, 2)


def test_a_recipes_validations_count():
    sasrec, bert = make_systems(["sasrec"], ["bert4rec"], {})
    assert (sasrec.validate_every, sasrec.validations) == (1, sasrec.epochs)
    assert (bert.validate_every, bert.validations) == (6, 1750 // 6)
    assert [each.validate_every for each in make_systems(["sasrec"], ["bert4rec"], {}, validate_every=2)] == [2, 2]


def test_a_recipes_validations_are_checked(tmp_path):
    (tmp_path / "mine.toml").write_text('[train]\nmodel = "sasrec"\nvalidate_every = 0\n')
    with pytest.raises(UsageError, match=r"mine\.toml: --validate-every is 0; it must be at least 1"):
        make_systems([], [str(tmp_path / "mine.toml")], {})


def test_a_recipes_words_are_those_of_train(tmp_path):
    mine = tmp_path / "mine.toml"
    mine.write_text('[train]\nmodel = "markov"\ndecya = 0.9\n')
    with pytest.raises(UsageError, match=r"mine\.toml: unknown option 'decya' \(did you mean 'decay'"):
        make_systems([], [str(mine)], {})
    mine.write_text('[train]\nmodel = "markov"\nvalidation-users = 9\n[train.options]\ndecay = 0.9\n')
    (system,) = make_systems([], [str(mine)], {})
    assert system.first["decay"] == 0.9
    mine.write_text('[train]\nmodel = "sasrec"\n[train.options]\nlearning-rate = 0.02\n')
    (system,) = make_systems([], [str(mine)], {})
    assert system.first["learning_rate"] == 0.02


def test_a_value_that_a_scale_does_not_have(tmp_path):
    (tmp_path / "mine.toml").write_text('[train]\nmodel = "sasrec"\nlearning_rate = 0.0\n')
    (system,) = make_systems([], [str(tmp_path / "mine.toml")], {})
    assert "learning_rate" not in system.space
    assert system.options({})["learning_rate"] == 0.0


def test_choices_are_no_lists():
    @dataclass(frozen=True, kw_only=True)
    class LayeredConfig(MethodConfig):
        name: ClassVar[str] = "layered"
        implementation: ClassVar[str] = "bbqrec_cli.models.popularity:Popularity"
        widths: tuple[int, ...] = option((64,), "Layers' widths.", role="model", search=((64,), (64, 32)))

    MODELS.add(LayeredConfig)
    try:
        with pytest.raises(UsageError, match="layered: --widths would try lists"):
            make_systems(["layered"], [], {})
    finally:
        MODELS.remove("layered")


@dataclass(frozen=True, kw_only=True)
class CappedConfig(MethodConfig):
    """A model whose options may be None."""

    name: ClassVar[str] = "capped"
    implementation: ClassVar[str] = "bbqrec_cli.models.popularity:Popularity"
    cap: int | None = option(None, "Cap.", role="model", search=(10, 20))
    share: float | None = option(None, "Share.", role="model", search=Range(0.0, 1.0))
    floor: float | None = option(0.5, "Floor.", role="model", search=(None, 0.5, 0.9))


def test_options_that_may_be_none(tmp_path):
    (tmp_path / "mine.toml").write_text('[train]\nmodel = "capped"\ncap = 15\nshare = 0.5\n')
    MODELS.add(CappedConfig)
    try:
        capped, mine = make_systems(["capped"], [str(tmp_path / "mine.toml")], {})
        values = readable(mine.space, "capped", {"share": 0.123456})
    finally:
        MODELS.remove("capped")
    floor = {"floor": (0.5, 0.9)}  # a recipe file without it would mean 0.5
    assert capped.space == {"cap": (None, 10, 20)} | floor, "no number between others is None"
    assert mine.space == {"cap": (10, 15, 20), "share": Range(0.0, 1.0)} | floor
    assert values == {"share": 0.123}


@pytest.mark.parametrize(
    ("models", "recipes", "fixed", "says"),
    [
        (["sasrek"], [], {}, "did you mean 'sasrec'"),
        (["sasrec"], ["sasrek"], {}, "--recipe is 'sasrek'"),
        (["sasrec", "sasrec"], [], {}, "sasrec is named twice"),
        (["sasrec"], [], {"dropout": 2.0}, "--model sasrec: --dropout is 2.0"),
        ([], ["sasrec-sampled"], {"dropout": 2.0}, "--recipe sasrec-sampled: --dropout is 2.0"),
        (["sasrec"], [], {"width": 51}, "not a multiple of --heads"),
    ],
)
def test_wrong_systems_are_named(models, recipes, fixed, says):
    with pytest.raises(UsageError, match=says.replace("--", "[-][-]")):
        make_systems(models, recipes, fixed)


def test_numbers_are_readable():
    (system,) = make_systems(["sasrec"], [], {})
    values = {"learning_rate": 0.00123456, "dropout": 0.5, "width": 64}
    assert readable(system.space, "sasrec", values) == {"learning_rate": 0.00123, "dropout": 0.5, "width": 64}
