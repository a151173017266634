"""Results as columns, and as data frames where pandas or polars is installed."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from bbqrec_cli.errors import MissingPackageError


class Framed:
    """A result that is a table, too."""

    def columns(self) -> dict[str, list[Any]]:
        """Name -> values, all of one length; None where there is none."""
        raise NotImplementedError

    def to_pandas(self) -> Any:
        """A `pandas.DataFrame`. Raises: MissingPackageError: pandas is not installed."""
        return _library("pandas").DataFrame(self.columns())

    def to_polars(self) -> Any:
        """A `polars.DataFrame`. Raises: MissingPackageError: polars is not installed."""
        return _library("polars").DataFrame(self.columns())


def _library(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError as error:
        raise MissingPackageError(f"to_{name}() needs {name}, which is not installed", f"pip install {name}") from error
