"""Outputs that can not be written, refused before any work."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bbqrec_cli.errors import DataError, LackingError
from bbqrec_cli.outputs import check_output


def test_impossible_outputs(tmp_path, files, monkeypatch):
    (tmp_path / "same.h5").hardlink_to(files["tokens"])
    with pytest.raises(DataError, match="is a folder"):
        check_output(tmp_path, force=True)
    with pytest.raises(DataError, match="does not exist") as caught:
        check_output(tmp_path / "no" / "f.h5", force=False)
    assert caught.value.hint.startswith("mkdir -p")
    with pytest.raises(DataError, match="is not a regular file"):
        check_output(Path(os.devnull), force=True)
    with pytest.raises(DataError, match="is an input"):
        check_output(tmp_path / "same.h5", force=True, inputs=[files["model"], files["tokens"]])
    check_output(tmp_path / "g.h5", force=True, inputs=[tmp_path / "g.h5", files["tokens"]])
    monkeypatch.setattr(os, "access", lambda *_, **__: False)
    with pytest.raises(LackingError, match="no permission to write to"):
        check_output(tmp_path / "f.h5", force=False)
