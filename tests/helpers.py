"""What several tests make."""

from __future__ import annotations

from typing import Any

from bbqrec_cli.models.base import Recommender
from bbqrec_cli.models.registry import build_model, model_config, model_settings
from bbqrec_cli.records import Codes, ItemData, Vocabulary


def new_model(name: str, items: int = 12, codes: Codes | None = None, **options: Any) -> Any:
    """A model with fresh weights over items i0, i1, …; options: those that are not to be its defaults."""
    data = ItemData(ids=Vocabulary(f"i{item}" for item in range(items)), codes=codes)
    model: Recommender = build_model(name, model_settings(model_config(name, options)), data)
    return model


def new_generator(codes: Codes, **options: Any) -> Any:
    """BBQRec's generator."""
    return new_model("bbqrec", len(codes.codes), codes, **options)
