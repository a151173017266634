"""The one family of errors that a user may see: each has a closed `code`, an exit code and, mostly, a next step.

Only `cli/` turns them into a message and an exit status; everything below raises them.
"""

from __future__ import annotations


class BBQRecError(Exception):
    """An error that the user can act on.

    Args:
        message: what was found, where (file, HDF5 path, line), and what was needed.
        hint: the next thing to type or to change; '' when there is none.
    """

    code = "error"
    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(BBQRecError):
    """An option or its value makes no sense (exit 2)."""

    code, exit_code = "usage", 2


class DataError(BBQRecError):
    """Bad input data: a malformed line, duplicate ids, NaN in features, … (exit 3)."""

    code, exit_code = "bad_data", 3


class WrongKindError(DataError):
    """A bbqrec file of another kind than the stage needs."""

    code = "wrong_kind"


class NewerVersionError(DataError):
    """A file written with a schema that this version does not know yet."""

    code = "newer_version"


class BrokenFileError(DataError):
    """Truncated, not HDF5, or with shapes that contradict each other."""

    code = "broken_file"


class UnsafeFileError(DataError):
    """A file that could bring in another file's bytes, or take more memory than its size lets expect."""

    code = "unsafe_file"


class MissingFileError(DataError):
    """An input file that does not exist."""

    code = "missing_file"


class OutputExistsError(DataError):
    """The output is there already and --force was not given."""

    code = "output_exists"


class CollapseError(DataError):
    """Codebooks collapsed and --fail-on-collapse was given."""

    code = "collapse"


class CollisionError(DataError):
    """More items in collisions than --max-collisions allows."""

    code = "collisions"


class LackingError(BBQRecError):
    """The environment lacks something: a package, a device, disk, memory (exit 4)."""

    code, exit_code = "environment", 4


class MissingPackageError(LackingError):
    """An optional package is not installed."""

    code = "missing_package"


class DiskFullError(LackingError):
    """The output could not be written for want of space."""

    code = "disk_full"


class InterruptedRunError(BBQRecError):
    """Ctrl-C or SIGTERM; the message says what was saved (exit 130)."""

    code, exit_code = "interrupted", 130


CODES = tuple(
    sorted(
        {
            error.code
            for error in (
                BBQRecError,
                UsageError,
                DataError,
                WrongKindError,
                NewerVersionError,
                BrokenFileError,
                UnsafeFileError,
                MissingFileError,
                OutputExistsError,
                CollapseError,
                CollisionError,
                LackingError,
                MissingPackageError,
                DiskFullError,
                InterruptedRunError,
            )
        }
    )
)


def import_faiss():
    """faiss, or an error that says which extra brings it.

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
