from __future__ import annotations

import json
import subprocess
from pathlib import Path

import torch

from bbqrec_cli import origin


def test_the_origin_of_what_runs_now():
    found = origin.origin("cpu", 3)
    assert (found["device"], found["threads"]) == ("cpu", 3)
    assert found["packages"].keys() >= {"torch", "numpy"}
    json.dumps(found)
    git = ["git", "-C", str(Path(origin.__file__).parent), "rev-parse", "HEAD"]
    head = subprocess.run(git, capture_output=True, text=True, check=False)
    if head.returncode == 0:
        assert found["commit"].split()[0] == head.stdout.strip()
    else:
        assert found["commit"] == ""


def test_several_processes_are_recorded(monkeypatch):
    """With dropout, each draws its own numbers."""
    assert "processes" not in origin.ran_on(torch.device("cpu"), 1, "fp32")
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert origin.ran_on(torch.device("cpu"), 1, "fp32")["processes"] == 4
