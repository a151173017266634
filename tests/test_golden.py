"""A file of every kind and version, written once and committed: each opens for ever and says what it said."""

from __future__ import annotations

import dataclasses
import importlib.util
from pathlib import Path

import numpy as np
import pytest

from bbqrec_cli import hdf5
from bbqrec_cli.hdf5.schema import KINDS

GOLDEN = Path(__file__).parent / "golden"
FILES = sorted(GOLDEN.glob("v*/*.h5"))


@pytest.fixture(scope="module")
def made():
    """tests/golden/make.py, which holds what each must say."""
    spec = importlib.util.spec_from_file_location("golden_make", GOLDEN / "make.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def check(found, expected, where: str) -> None:
    """Everything that `expected` holds is in `found`, with equal values."""
    if dataclasses.is_dataclass(expected):
        for name, value in vars(expected).items():
            check(getattr(found, name), value, f"{where}.{name}")
    elif isinstance(expected, dict):
        assert set(found) == set(expected), where
        for key, value in expected.items():
            check(found[key], value, f"{where}[{key!r}]")
    elif isinstance(expected, np.ndarray):
        assert found.dtype == expected.dtype, where
        np.testing.assert_array_equal(found, expected, err_msg=where)
    else:
        assert found == expected, where


def test_every_version_of_every_kind_is_there():
    there = {(path.parent.name, path.stem) for path in FILES}
    assert there == {(f"v{version}", kind) for kind in KINDS for version in range(1, KINDS[kind].version + 1)}


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_opens_and_says_what_it_said(path, made):
    said = hdf5.describe(path)
    assert (said["kind"], said["config"]) == (path.stem, made.CONFIG)
    assert said["schema_version"] == int(path.parent.name.removeprefix("v"))
    if path.stem == "checkpoint":
        arrays, meta, _ = hdf5.read_checkpoint(path)
        check(arrays, made.CHECKPOINT[0], "arrays")
        assert meta == made.CHECKPOINT[1]
    else:
        check(getattr(hdf5, f"read_{path.stem}")(path), made.RECORDS[path.parent.name][path.stem], path.stem)
