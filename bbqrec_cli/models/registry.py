"""The models: name -> options (`options/`) and network, imported only when used."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from bbqrec_cli.config import from_mapping, of_role
from bbqrec_cli.errors import DataError
from bbqrec_cli.origin import not_installed
from bbqrec_cli.registry import Registry

if TYPE_CHECKING:
    import torch

    from bbqrec_cli.models.base import Recommender
    from bbqrec_cli.records import ItemData, TrainedModel

MODELS = Registry("bbqrec_cli.models.options", option="--model", default="bbqrec", group="bbqrec.models")


def model_config(name: str, options: Mapping[str, Any]) -> Any:
    """The checked configuration of a model.

    Raises:
        UsageError: an unknown model, an option that it does not have, or a width that is no multiple of its heads.
    """
    return from_mapping(MODELS.config(name), options, where=f"--model {name}")


def model_settings(config: Any) -> dict[str, Any]:
    """The options that the model's constructor takes and its file stores; the others concern training."""
    return of_role(config, "model")


REMOVED = {
    "tied_embeddings": True, "signal_weights": False, "dense_weight": 1.0, "label_smoothing": 0.0, "code_dropout": 0.0,
}  # fmt: skip
"""Settings of older models, with the value at which today's models do the same."""


def current_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of an older model file, translated for today's models.

    Raises:
        DataError: it was trained with a removed option, at another value than that of REMOVED.
    """
    kept = {name: value for name, value in settings.items() if name not in REMOVED}
    for name in settings.keys() & REMOVED.keys():
        if settings[name] != REMOVED[name]:
            raise DataError(
                f"the model file was trained with {name} = {settings[name]!r}, an option that bbqrec no longer has",
                "train it again without the option",
            )
    # `tuple_vectors` was a boolean in older files.
    if isinstance(kept.get("tuple_vectors"), bool):
        kept["tuple_vectors"] = "free" if kept["tuple_vectors"] else "none"
    # `negatives` chose the loss of older models: 0 was the softmax over all items.
    if "negatives" in kept and "loss" not in kept:
        kept["loss"] = "sampled" if kept["negatives"] else "ce"
        kept["negatives"] = max(1, kept["negatives"])
    return kept


def build_model(name: str, settings: Mapping[str, Any], data: ItemData) -> Recommender:
    """A model with newly initialised weights.

    Raises:
        DataError: the model needs semantic IDs or features, and `data` has none; a plugin's lacks a method.
    """
    check_needs(name, settings, data)
    cls = MODELS.implementation(name)
    if lacking := sorted(getattr(cls, "__abstractmethods__", ())):
        raise DataError(f"the model {name}: {cls.__name__} lacks {', '.join(lacking)}", "write it")
    model: Recommender = cls(data=data, **settings)
    if not isinstance(model.of_catalogue, Mapping):
        what = f"the model {name}: of_catalogue is of the type {type(model.of_catalogue).__name__}"
        raise DataError(what, "a dict is needed: buffer -> its dimension of the items, None for none")
    return model


def check_needs(name: str, settings: Mapping[str, Any], data: ItemData) -> None:
    """Raises: DataError: the model needs semantic IDs or features, and `data` has none."""
    needed = MODELS.implementation(name).needed(settings)
    hints = {"codes": ("semantic IDs", "bbqrec tokenize"), "features": ("features", "bbqrec embed")}
    for need, (what, hint) in hints.items():
        if need in needed and not getattr(data, need):
            raise DataError(f"the model {name} needs {what}, and the input has none", hint)


def load_model(trained: TrainedModel, device: torch.device) -> Recommender:
    """The model of a model file, on `device` and in eval mode.

    Raises:
        DataError: its weights do not fit its settings.
        MissingPackageError: the model is not installed; the message names its plugin.
    """
    import torch

    if trained.name not in MODELS:
        raise not_installed("the model file", f"the model {trained.name!r}", trained.plugin)

    if trained.settings.get("dense_head") and "dense.share" in trained.weights:
        what = "the model file is of an older version, which mixed the dense head in otherwise"
        raise DataError(what, "train it again")
    settings = model_settings(model_config(trained.name, current_settings(trained.settings)))
    model = build_model(trained.name, settings, trained.data)
    try:
        model.load_state_dict({name: torch.from_numpy(value) for name, value in trained.weights.items()})
    except RuntimeError as error:
        raise DataError(f"the model file's weights do not fit its settings: {error}", "bbqrec train") from error
    return model.to(device).eval()
