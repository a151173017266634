"""The errors that users may see. Each has a `code` from a closed list, an exit code and usually a hint.

Only `cli/` turns them into a message and an exit status; all other libraries raise them.
"""

from __future__ import annotations

import errno


class BBQRecError(Exception):
    """An error that the user can act on.

    Args:
        message: what is wrong, where (file, HDF5 path, line), and what is needed.
        hint: what to type or change next; '' for none.
    """

    code = "error"
    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class BBQRecWarning(UserWarning):
    """What a stage or a plugin warns of, where Python code called it; the command line prints it instead."""


class UsageError(BBQRecError):
    """An unknown option, or an invalid value or combination of options (exit 2)."""

    code, exit_code = "usage", 2


class DataError(BBQRecError):
    """Invalid input data: a malformed line, duplicate ids, NaN in features, … (exit 3)."""

    code, exit_code = "bad_data", 3


class DivergedError(DataError):
    """What a training computes is no number any more."""

    code = "diverged"


class WrongKindError(DataError):
    """A bbqrec file of a kind that the stage cannot use."""

    code = "wrong_kind"


class NewerVersionError(DataError):
    """A file with a newer schema than this version of bbqrec knows."""

    code = "newer_version"


class BrokenFileError(DataError):
    """A file that is truncated, not HDF5, or has contradictory shapes."""

    code = "broken_file"


class UnsafeFileError(DataError):
    """A file that refers to other files, or needs far more memory than its size."""

    code = "unsafe_file"


class MissingFileError(DataError):
    """An input file that does not exist."""

    code = "missing_file"


class OutputExistsError(DataError):
    """The output exists already, and --force was not given."""

    code = "output_exists"


class CollapseError(DataError):
    """Codebooks collapsed and --fail-on-collapse was given."""

    code = "collapse"


class CollisionError(DataError):
    """More colliding items than --max-collisions allows."""

    code = "collisions"


class LackingError(BBQRecError):
    """The environment lacks something: a package, a device, disk, memory (exit 4)."""

    code, exit_code = "environment", 4


class MissingPackageError(LackingError):
    """An optional package is not installed."""

    code = "missing_package"


class DiskFullError(LackingError):
    """The output could not be written, since the disk is full."""

    code = "disk_full"


class DownloadError(LackingError):
    """A file could not be downloaded: no network, no such address, or the server sends something else."""

    code = "download"


class InterruptedRunError(BBQRecError):
    """Ctrl-C or SIGTERM; the message says what was saved (exit 130)."""

    code, exit_code = "interrupted", 130


def _codes(kind: type[BBQRecError]) -> set[str]:
    return {kind.code}.union(*map(_codes, kind.__subclasses__()))


CODES = tuple(sorted(_codes(BBQRecError)))

_NO_MEMORY = ("out of memory", "can't allocate memory", "unable to allocate", "_alloc_failed")
"""What CUDA, torch, NumPy, and cuBLAS and cuDNN say."""


def out_of_memory(error: Exception) -> str:
    """The message for an exception that means a lack of memory; '' for others."""
    said = str(error)
    if not isinstance(error, MemoryError) and not any(each in said.lower() for each in _NO_MEMORY):
        return ""
    return f"out of memory: {said.splitlines()[0]}" if said else "out of memory"


def environment_error(error: Exception) -> LackingError | None:
    """The error that says what the environment lacks, if that is what an exception from another package means."""
    said = str(error)
    if what := out_of_memory(error):
        return LackingError(what, "a smaller --batch-size, a smaller model, or a larger machine")
    if isinstance(error, ModuleNotFoundError) and not str(error.name).startswith("bbqrec_cli"):
        package = str(error.name).split(".")[0]
        return MissingPackageError(f"the package {package} is not installed", "pip install --upgrade bbqrec")
    if isinstance(error, OSError):
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        return DiskFullError(said, "free some space") if full else LackingError(said or type(error).__name__)
    return None


def import_faiss():
    """Import faiss.

    Raises:
        MissingPackageError: neither faiss-cpu nor faiss-gpu is installed.
    """
    try:
        import faiss
    except ImportError as error:
        raise MissingPackageError(
            "this step needs faiss, which is not installed",
            "pip install 'bbqrec[cpu]' (or 'bbqrec[gpu]' on a CUDA machine; never both)",
        ) from error
    return faiss
