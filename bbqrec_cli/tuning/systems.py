"""The systems that are tuned, and what is tried for each."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bbqrec_cli.config import Range, configure, field_name, flag, from_mapping, search_of, stored
from bbqrec_cli.errors import UsageError
from bbqrec_cli.models.registry import MODELS
from bbqrec_cli.recipes import recipe
from bbqrec_cli.stages.train import TrainConfig

Space = Mapping[str, "tuple[Any, ...] | Range"]
"""Option -> what is tried for it."""


@dataclass(frozen=True, kw_only=True)
class System:
    """A model with its default settings or a recipe's.

    name: the model's, or the recipe's; recipe: '' for none; base: the model's options that are not its defaults;
    space: the options that are tuned, which `base` may hold, too: their values in the first trial; validate_every:
    epochs between validations, by which `patience` counts.
    """

    name: str
    model: str
    recipe: str
    base: Mapping[str, Any]
    space: Space
    validate_every: int = 1

    @property
    def first(self) -> dict[str, Any]:
        """The values of the first trial: the recipe's and the defaults."""
        resolved = self.options({})
        return {name: resolved[name] for name in self.space}

    def options(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """All of the model's options, ready for JSON, with `values` for those that are tuned.

        Raises:
            UsageError: they do not go together.
        """
        return stored(_checked(self.model, {**self.base, **values}, f"--model {self.model}"))

    def to_json(self) -> dict[str, Any]:
        """What the ledger says of it; `tried` in words."""
        tried = {name: shown(search) for name, search in self.space.items()}
        return {"model": self.model, "recipe": self.recipe, "tried": tried}

    @property
    def epochs(self) -> int:
        """Epochs of a whole training, at most; 0 for a model that is not trained by gradient."""
        return self.options({}).get("epochs", 0)

    @property
    def validations(self) -> int:
        """Validations of a whole training, at most."""
        return self.epochs // self.validate_every


def model_of(name: str) -> str:
    """The model of a recipe. Raises: UsageError: there is no such recipe, or none for `train`."""
    return str(recipe(name, "train").get("model", MODELS.default))


def make_systems(
    models: Sequence[str], recipes: Sequence[str], fixed: Mapping[str, Any], *, validate_every: int = 1
) -> list[System]:
    """Models, then recipes; of a recipe only the model's own options and `validate_every` count.

    fixed: options of models; each system takes those that its model has, and they are not tuned. validate_every: of the
    command; 1, its default: a recipe's own, if it has one.

    Raises:
        UsageError: an unknown model, recipe or option; values that are wrong or do not go together; a system twice.
    """
    made = [_system(name, name, "", {}, fixed, validate_every) for name in models]
    for each in recipes:
        model, values = model_of(each), recipe(each, "train")
        training = configure(TrainConfig, values, where=f"--recipe {each}")
        name = Path(each).stem if each.endswith(".toml") else each
        every = training.validate_every if validate_every == 1 else validate_every
        settings = {field_name(key): value for key, value in training.options.items()}
        made.append(_system(name, model, each, settings, fixed, every))
    names = [system.name for system in made]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise UsageError(f"{twice} is named twice", "name each model and recipe once")
    return made


def _system(
    name: str, model: str, source: str, settings: Mapping[str, Any], fixed: Mapping[str, Any], validate_every: int
) -> System:
    ours = {key: value for key, value in fixed.items() if key in _names(model)}
    where = f"--recipe {source}" if source else f"--model {model}"
    base = {**settings, **ours}
    config = _checked(model, base, where)
    base = {key: getattr(config, key) for key in base}
    space = space_of(model, config, fixed=tuple(ours))
    return System(name=name, model=model, recipe=source, base=base, space=space, validate_every=validate_every)


def space_of(model: str, config: Any, *, fixed: Sequence[str] = ()) -> dict[str, tuple[Any, ...] | Range]:
    """What is tried for the options of a model. Their values in `config` are always among it.

    Left out is what does not go together with the others or has no effect beside them, a Range whose scale does not
    have the value, and None where it is no default: a recipe cannot say it.

    Raises:
        UsageError: a choice is a list.
    """
    cls, found = type(config), dict[str, "tuple[Any, ...] | Range"]()
    for f in dataclasses.fields(cls):
        search, value = search_of(cls, f.name), getattr(config, f.name)
        why = config.idle.get(f.name)
        if f.name in fixed or not search or (why and (why in fixed or not search_of(cls, why))):
            continue
        if isinstance(search, Range):
            if value is None or (search.log and value <= 0):
                continue
            found[f.name] = Range(min(search.low, value), max(search.high, value), search.log)
            continue
        if any(isinstance(each, (list, tuple)) for each in search):
            what = f"{model}: {flag(f.name)} would try lists, {search}"
            raise UsageError(what, "search=() in the plugin, or numbers, texts, true and false")
        choices = tuple(search) if value in search else _sorted((*search, value))
        choices = tuple(each for each in choices if each is not None or f.default is None)
        choices = tuple(each for each in choices if _fits(model, config, {f.name: each}))
        if len(choices) > 1:
            found[f.name] = choices
    return found


def in_effect(model: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a model without those that have no effect beside the others."""
    idle = _checked(model, options, f"--model {model}").idle
    return {name: value for name, value in options.items() if name not in idle}


def readable(space: Space, model: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Proposed values as they are used: fractions with three digits, integers as such."""
    hints = typing.get_type_hints(MODELS.config(model))
    types = {name: next((each for each in typing.get_args(hint) if each is not type(None)), hint)
             for name, hint in hints.items()}  # fmt: skip
    return {
        name: types[name](float(f"{value:.3g}")) if isinstance(space[name], Range) else value
        for name, value in values.items()
    }


def shown(search: tuple[Any, ...] | Range) -> str:
    """What is tried, in words."""
    return str(search) if isinstance(search, Range) else ", ".join(map(str, search))


def _sorted(values: tuple[Any, ...]) -> tuple[Any, ...]:
    """Numbers by size, None before them; texts as they are."""
    if any(isinstance(each, str) for each in values):
        return values
    return tuple(sorted(values, key=lambda each: (each is not None, each)))


def _names(model: str) -> set[str]:
    return {f.name for f in dataclasses.fields(MODELS.config(model))}


def _checked(model: str, options: Mapping[str, Any], where: str) -> Any:
    return from_mapping(MODELS.config(model), options, where=where)


def _fits(model: str, config: Any, values: Mapping[str, Any]) -> bool:
    """Whether values go together with the rest of a configuration."""
    try:
        _checked(model, {f.name: getattr(config, f.name) for f in dataclasses.fields(config)} | dict(values), model)
    except UsageError:
        return False
    return True
