"""Semantic IDs from text, pictures and behaviour, and generative recommendation with them: the BBQRec toolkit.

`import bbqrec_cli as bbqrec`; what is public stands in `__all__` (docs/python.md).
"""

from typing import TYPE_CHECKING, Any

# Loaded before the function of its name is looked up below, so that loading it later does not hide the function.
from bbqrec_cli import collisions as _collisions  # noqa: F401

if TYPE_CHECKING:
    from bbqrec_cli.api import (
        Model,
        Recommendations,
        collisions,
        compare,
        embed,
        evaluate,
        export,
        inspect,
        load,
        prepare,
        recommend,
        tokenize,
        train,
    )
else:
    del collisions

__version__ = "0.1.0"
__all__ = [
    "Model",
    "Recommendations",
    "collisions",
    "compare",
    "embed",
    "errors",
    "evaluate",
    "export",
    "inspect",
    "load",
    "prepare",
    "recommend",
    "tokenize",
    "train",
]


def __getattr__(name: str) -> Any:
    """What is public, imported when it is asked for."""
    from importlib import import_module

    if name == "errors":
        return import_module("bbqrec_cli.errors")
    if name in __all__:
        return getattr(import_module("bbqrec_cli.api"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
