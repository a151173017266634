"""The interface of encoders, and loading pretrained models from a folder, the local cache or the model hub."""

from __future__ import annotations

import hashlib
import json
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from bbqrec_cli.errors import DataError, LackingError

if TYPE_CHECKING:
    import torch

T = TypeVar("T")


KINDS = (
    "", "of several frames (the first counts)", "CMYK", "16-bit", "transparent", "greyscale", "corrupt", "truncated",
    "too large",
)  # fmt: skip
"""What is remarkable about an input; those from 'corrupt' on cannot be read."""
UNREADABLE = KINDS.index("corrupt")


@dataclass(frozen=True, eq=False)
class Prepared:
    """n inputs as the model takes them, and what was remarkable about each: kinds (n,) uint8, rows of KINDS."""

    inputs: Any
    kinds: np.ndarray

    @property
    def readable(self) -> np.ndarray:
        """(n,) bool."""
        return self.kinds < UNREADABLE


def as_they_are(inputs: Sequence[Any]) -> Prepared:
    """Nothing to prepare."""
    return Prepared(list(inputs), np.zeros(len(inputs), dtype=np.uint8))


class Encoder(ABC):
    """Encodes n inputs (texts, or encoded pictures as bytes) as features (n, d), in two steps.

    name: recorded in the file with the features; weights: digest of the parameters, '' if there are none; setup: digest
    of what else decides the values, such as pooling and tokenizer, '' if there is nothing; limit: tokens that are read
    of a text, 0 for no limit; prepare: the first step, which worker processes can do: it can be sent to them, and holds
    no model.
    """

    name: str
    weights: str = ""
    setup: str = ""
    limit: int = 0
    prepare: Callable[[Sequence[Any]], Prepared] = staticmethod(as_they_are)

    def long(self, inputs: Sequence[Any]) -> int:
        """How many inputs are longer than `limit`."""
        return 0

    @abstractmethod
    def forward(self, inputs: Any) -> np.ndarray:
        """The second step: values (n, d) float32 of `Prepared.inputs`; rows of unreadable inputs do not matter."""

    def finish(self, prepared: Prepared) -> np.ndarray:
        """values (n, d) float32 of prepared inputs; zero for those that cannot be read.

        Raises:
            DataError: `forward` gives something else.
        """
        values, count = np.asarray(self.forward(prepared.inputs)), len(prepared.kinds)
        if values.ndim != 2 or len(values) != count or not values.shape[1] or values.dtype.kind not in "fiu":
            what = f"the encoder {type(self).__name__} gives values {values.shape} of the type {values.dtype}"
            raise DataError(f"{what}; numbers ({count}, d) are needed", "correct its method forward")
        return np.where(prepared.readable[:, None], values, np.float32(0))

    def encode(self, inputs: Sequence[Any]) -> tuple[np.ndarray, np.ndarray]:
        """Both steps: values (n, d) float32 and readable (n,) bool; inputs that cannot be read are zero and False."""
        prepared = self.prepare(inputs)
        return self.finish(prepared), prepared.readable


def load_pretrained(flag: str, name: str, load: Callable[[bool], T]) -> T:
    """Load a pretrained model: first from local files, so that a cached model needs no network, then from the hub.

    Args:
        flag: the option that names it, for the errors.
        name: a folder or a name on the Hugging Face hub.
        load: takes whether only local files may be used; raises OSError or ValueError if it fails.

    Raises:
        DataError: a folder without a loadable model; a model that brings code of its own.
        LackingError: a model that is not in the cache and cannot be downloaded.
    """
    quiet_libraries()
    looks_like_path = name.startswith((".", "~", os.sep)) or Path(name).is_dir()
    try:
        return load(True)
    except (OSError, ValueError, ImportError) as error:
        _refuse_code(flag, name, error)
        if isinstance(error, ImportError):
            raise
        if looks_like_path:
            what = "is not a model that can be loaded" if Path(name).is_dir() else "no such folder"
            raise DataError(f"{flag} {name}: {what} ({_first_line(error)})", _folder_hint(flag)) from error
    try:
        _probe(name)
        return load(False)
    except (OSError, ValueError) as error:
        _refuse_code(flag, name, error)
        raise LackingError(
            f"{flag} {name}: not in the local cache, and cannot be downloaded ({_first_line(error)})",
            _folder_hint(flag),
        ) from error


def _refuse_code(flag: str, name: str, error: Exception) -> None:
    """Raises: DataError: the error says that the model would have its own code run."""
    if "trust_remote_code" in str(error):
        raise DataError(
            f"{flag} {name}: brings code, which bbqrec does not run",
            "give a model whose architecture is part of the library, such as sentence-transformers/all-mpnet-base-v2",
        ) from error


def _probe(name: str) -> None:
    """Ask the hub for the model once, with a short timeout: without a network the libraries retry for over a minute.

    Raises:
        OSError: no network, no such model or no access.
    """
    import huggingface_hub

    try:
        huggingface_hub.model_info(name, timeout=10)
    except Exception as error:  # the HTTP library, and so its errors, differ between versions
        raise OSError(_first_line(error)) from error


def quiet_libraries() -> None:
    """Turn off progress bars and advice of transformers on stderr: bbqrec has its own."""
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()


def fingerprint(model: torch.nn.Module) -> str:
    """16 hex digits of the SHA-256 of all parameters: identifies weights independently of their path."""
    import torch

    digest = hashlib.sha256()
    for key, value in sorted(model.state_dict().items()):
        digest.update(key.encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()[:16]


def digest_of(*values: Any) -> str:
    """16 hex digits of the SHA-256 of values as JSON; of others their text counts."""
    text = json.dumps(values, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def short_name(model: str) -> str:
    """The model's name for a file: for a folder, only its last part."""
    return Path(model).expanduser().resolve().name if Path(model).expanduser().is_dir() else model


def _folder_hint(flag: str) -> str:
    return f"download the model on a machine with a network, and give its folder: {flag} FOLDER"


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
