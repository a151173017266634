"""What `pip wheel` and an sdist hold, built without a network."""

from __future__ import annotations

import tarfile
import zipfile
from pathlib import Path

import pytest
from hatchling.builders.sdist import SdistBuilder
from hatchling.builders.wheel import WheelBuilder

import bbqrec_cli
from bbqrec_cli import origin

ROOT = Path(__file__).parents[1]
PACKAGE = {
    path.relative_to(ROOT).as_posix()
    for path in (ROOT / "bbqrec_cli").rglob("*")
    if path.is_file() and "__pycache__" not in path.parts
}


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    for builder in (WheelBuilder, SdistBuilder):
        list(builder(str(ROOT)).build(directory=str(folder)))
    return folder


def test_the_wheel_holds_the_package_and_nothing_else(built):
    """Suites and templates included: what is no Python is easily forgotten."""
    with zipfile.ZipFile(next(built.glob("*.whl"))) as wheel:
        names = set(wheel.namelist())
        about = next(name for name in names if name.endswith("METADATA"))
        scripts = wheel.read(about.replace("METADATA", "entry_points.txt")).decode()
        metadata = wheel.read(about).decode()
    assert any(name.endswith(".toml") for name in PACKAGE)
    assert {name for name in names if ".dist-info/" not in name} - {"bbqrec_cli/COMMIT"} == PACKAGE
    assert any(name.endswith("/licenses/LICENSE") for name in names)
    assert "bbqrec = bbqrec_cli.cli.app:main" in scripts
    assert f"Version: {bbqrec_cli.__version__}" in metadata
    for extra in ("cpu", "gpu", "offline-text", "dev"):
        assert f"Provides-Extra: {extra}" in metadata


def test_an_install_knows_the_commit_that_it_was_built_from(built, tmp_path, monkeypatch):
    commit = origin.commit()
    if not commit:  # an sdist's own tests
        pytest.skip("this is no clone")
    with zipfile.ZipFile(next(built.glob("*.whl"))) as wheel:
        wheel.extractall(tmp_path)
    monkeypatch.setattr(bbqrec_cli, "__file__", str(tmp_path / "bbqrec_cli" / "__init__.py"))
    assert origin.commit() == commit


def test_the_sdist_can_be_tested(built):
    with tarfile.open(next(built.glob("*.tar.gz"))) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    needed = {"README.md", "CHANGELOG.md", "LICENSE", "Makefile", "pyproject.toml", "examples/demo.sh", "docs/cli.md"}
    needed |= {"tests/conftest.py", "tests/golden/v1/model.h5", "docs/generate.py"}
    assert not (needed | PACKAGE | {"hatch_build.py"}) - names
