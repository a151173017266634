"""Outputs that can not be written, refused before any work."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bbqrec_cli.errors import DataError, LackingError
from bbqrec_cli.formats.output import whole_file, whole_folder
from bbqrec_cli.outputs import check_output, only_writer


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


def test_two_runs_do_not_write_one_file(tmp_path):
    path = tmp_path / "r.csv"
    with whole_file(path, force=True, inputs=[]) as partial:
        partial.write_text("first")
        with pytest.raises(LackingError, match="another run is writing to it"), whole_file(path, force=True, inputs=[]):
            pass
        assert partial.read_text() == "first"
    assert path.read_text() == "first"
    failing = whole_file(path, force=True, inputs=[])
    failing.__enter__().write_text("second")
    assert not failing.__exit__(RuntimeError, RuntimeError(), None)
    assert path.read_text() == "first"
    assert os.listdir(tmp_path) == ["r.csv"]


def test_two_runs_do_not_write_one_folder(tmp_path):
    path = tmp_path / "xr"
    with whole_folder(path, {}, force=True) as partial:
        (partial / "a").write_text("first")
        with pytest.raises(LackingError, match="another run is writing to it"), whole_folder(path, {}, force=True):
            pass
        assert (partial / "a").read_text() == "first"
    assert (path / "a").read_text() == "first"
    assert os.listdir(tmp_path) == ["xr"]


def test_what_a_killed_run_left_does_not_matter(tmp_path):
    (tmp_path / ".r.csv.partial").write_text("much more than there will be")
    with whole_file(tmp_path / "r.csv", force=False, inputs=[]) as partial:
        partial.write_text("whole")
    assert (tmp_path / "r.csv").read_text() == "whole"
    assert os.listdir(tmp_path) == ["r.csv"]


def test_the_temporary_file_of_the_next_run_stays(tmp_path):
    """It may have begun before the first one is over."""
    path, following = tmp_path / "r.csv", []
    first = whole_file(path, force=True, inputs=[])
    first.__enter__().write_text("first")
    replace = os.replace

    def replaced(source, target):
        replace(source, target)
        if not following:
            following.append(whole_file(path, force=True, inputs=[]))
            following[0].__enter__().write_text("second")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "replace", replaced)
        first.__exit__(None, None, None)
    assert path.read_text() == "first"
    following[0].__exit__(None, None, None)
    assert path.read_text() == "second"


@pytest.mark.parametrize(
    "words",
    [
        ("train", "features", "--model", "popularity"),
        ("tokenize", "features", "--method", "random", "--codebook-size", 4),
        ("embed", "dataset", "--modalities", "image"),
    ],
)
def test_a_run_keeps_others_from_its_output_to_its_end(bbqrec, files, tmp_path, words):
    """Also while nothing is written, as in the first epoch, with --force, too."""
    name, kind, *more = words
    command = (name, files[kind], *more, "-o", tmp_path / "out.h5", "--force", "--device", "cpu")
    with only_writer(tmp_path / "out.h5"):
        said = bbqrec(*command)
    assert (said.status, "out.h5: another run is writing to it" in said.err) == (4, True)
    assert os.listdir(tmp_path) == []
    assert bbqrec(*command).status == 0
    assert os.listdir(tmp_path) == ["out.h5"]
