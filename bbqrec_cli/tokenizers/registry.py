"""The tokenizers: name -> options (`options/`) and method (`methods/`), imported only when used."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bbqrec_cli.config import from_mapping
from bbqrec_cli.registry import Registry

TOKENIZERS = Registry("bbqrec_cli.tokenizers.options", option="--method", default="bbqrec", group="bbqrec.tokenizers")


def tokenizer_config(method: str, options: Mapping[str, Any]) -> Any:
    """The checked configuration of `method`.

    Raises:
        UsageError: an unknown method, or an option that this method does not have.
    """
    return from_mapping(TOKENIZERS.config(method), options, where=f"--method {method}")


REMOVED = ("reconstruction", "learn_tau", "codebook_learning", "ema_decay", "estimator", "kmeans_sample")
"""Options of older tokenizers."""


def current_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """The method's options in an older tokens file, translated for today's tokenizers.

    Options of REMOVED concern how codes were learnt and do not matter when new items are encoded.
    """
    kept = {name: value for name, value in options.items() if name not in REMOVED}
    floor, unit = kept.pop("club_floor", True), kept.pop("unit_signals", True)
    return kept | ({} if floor and unit else {"plain_equations": not unit})


def build_tokenizer(method: str, config: Any) -> Any:
    """The tokenizer of a configuration made by `tokenizer_config`."""
    return TOKENIZERS.implementation(method)(config)
