"""Name -> model and its configuration, imported only when asked for."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

from bbqrec_cli.config import from_mapping, nearest, papers
from bbqrec_cli.errors import DataError, UsageError
from bbqrec_cli.models.configs import BBQRecConfig, PopularityConfig, SASRecConfig, TIGERConfig, TrainingConfig

if TYPE_CHECKING:
    import torch

    from bbqrec_cli.models.base import Recommender
    from bbqrec_cli.records import Codes, TrainedModel

MODELS: dict[str, tuple[str, type]] = {
    "bbqrec": ("bbqrec_cli.models.semantic_id_generator:SemanticIDGenerator", BBQRecConfig),
    "tiger": ("bbqrec_cli.models.semantic_id_generator:SemanticIDGenerator", TIGERConfig),
    "sasrec": ("bbqrec_cli.models.sasrec:SASRec", SASRecConfig),
    "popularity": ("bbqrec_cli.models.popularity:Popularity", PopularityConfig),
}
CONFIGS = tuple(config for _, config in MODELS.values())
_ONLY_TRAINING = {"epochs", "batch_size", "learning_rate", "weight_decay", "warmup", "patience"}


def model_config(name: str, options: Mapping[str, Any], *, paper: bool = False) -> Any:
    """The checked configuration of a model; paper: as the paper has it where `options` are silent.

    Raises:
        UsageError: an unknown model, an option that this model does not have, or a width that its heads cannot share.
    """
    if name not in MODELS:
        raise UsageError(f"--model is {name!r}; known: {', '.join(MODELS)}{nearest(name, MODELS)}")
    cls, where = MODELS[name][1], f"--model {name}"
    made: Any = from_mapping(cls, papers(cls, options, what=where) if paper else options, where=where)
    if isinstance(made, TrainingConfig) and made.width % made.heads:
        raise UsageError(f"--width {made.width} is not a multiple of --heads {made.heads}", "the heads share the width")
    return made


def model_settings(config: Any) -> dict[str, Any]:
    """The part of a model's configuration that its constructor takes (the rest says how to train)."""
    values = dataclasses.asdict(config)
    return {k: v for k, v in values.items() if not (isinstance(config, TrainingConfig) and k in _ONLY_TRAINING)}


def renewed(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a model file in today's words: `tuple_vectors` was a switch once."""
    switch = settings.get("tuple_vectors")
    return {**settings, "tuple_vectors": "free" if switch else "none"} if isinstance(switch, bool) else dict(settings)


def build_model(name: str, settings: Mapping[str, Any], *, items: int, codes: Codes | None) -> Recommender:
    """A model with fresh weights.

    Raises:
        DataError: the model needs semantic IDs and there are none.
    """
    module, attribute = MODELS[name][0].split(":")
    cls = getattr(import_module(module), attribute)
    if not cls.needs_codes:
        return cls(items=items, **settings)
    if codes is None:
        raise DataError(f"the model {name} needs semantic IDs, and the input has none", "bbqrec tokenize")
    return cls(items=items, codes=codes, **settings)


def load_model(trained: TrainedModel, device: torch.device) -> Recommender:
    """The model of a model file, ready to recommend.

    Raises:
        DataError: its weights do not fit its settings.
    """
    import torch

    settings = model_settings(model_config(trained.name, renewed(trained.settings)))
    model = build_model(trained.name, settings, items=trained.catalogue.items, codes=trained.codes)
    try:
        model.load_state_dict({name: torch.from_numpy(value) for name, value in trained.weights.items()})
    except RuntimeError as error:
        raise DataError(f"the model file's weights do not fit its settings: {error}", "bbqrec train") from error
    return model.to(device).eval()
