"""Writes the commit of the clone that a wheel or an sdist is built from into it, as bbqrec_cli/COMMIT."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

PACKAGE, NAME = "bbqrec_cli", "COMMIT"


class CommitHook(BuildHookInterface):
    """An editable install asks git itself; an sdist has the file already."""

    _folder: tempfile.TemporaryDirectory | None = None

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Before the archive is made."""
        commit = commit_of(Path(self.root))
        if version == "editable" or not commit:
            return
        self._folder = tempfile.TemporaryDirectory()
        path = Path(self._folder.name) / NAME
        path.write_text(commit + "\n", encoding="utf-8")
        build_data["force_include"][str(path)] = f"{PACKAGE}/{NAME}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """After it."""
        if self._folder:
            self._folder.cleanup()


def commit_of(root: Path) -> str:
    """The commit of a clone, '' if it is none."""
    git = ["git", "-C", str(root)]
    try:
        # A folder inside another repository is not tracked there.
        subprocess.run([*git, "ls-files", "--error-unmatch", "pyproject.toml"], check=True, capture_output=True)
        head = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
        dirty = subprocess.run([*git, "status", "--porcelain", PACKAGE], check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return head + (" with uncommitted changes" if dirty.stdout.strip() else "")
