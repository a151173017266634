"""Name -> tokenizer and its configuration, imported only when asked for."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

from bbqrec_cli.config import flag, from_mapping, nearest, papers
from bbqrec_cli.errors import MissingFileError, UsageError
from bbqrec_cli.tokenizers.configs import (
    BBQRecConfig,
    LETTERConfig,
    OPQConfig,
    PQConfig,
    PublishedConfig,
    RandomConfig,
    RQKMeansConfig,
    RQVAEConfig,
)

TOKENIZERS: dict[str, tuple[str, type]] = {
    "bbqrec": ("bbqrec_cli.tokenizers.bbqrec:BBQRec", BBQRecConfig),
    "rqvae": ("bbqrec_cli.tokenizers.rqvae:RQVAE", RQVAEConfig),
    "letter": ("bbqrec_cli.tokenizers.letter:LETTER", LETTERConfig),
    "rqkmeans": ("bbqrec_cli.tokenizers.rqkmeans:RQKMeans", RQKMeansConfig),
    "pq": ("bbqrec_cli.tokenizers.product_quantizer:ProductQuantizer", PQConfig),
    "opq": ("bbqrec_cli.tokenizers.product_quantizer:ProductQuantizer", OPQConfig),
    "random": ("bbqrec_cli.tokenizers.random:Random", RandomConfig),
    "published": ("bbqrec_cli.tokenizers.published:Published", PublishedConfig),
}
CONFIGS = tuple(config for _, config in TOKENIZERS.values())
FILES = tuple(sorted({name for config in CONFIGS for name in getattr(config, "FILES", ())}))
"""The options that name input files, of all tokenizers; a configuration class says its own in FILES."""


def input_files(config: Any) -> list[tuple[str, Path]]:
    """(option, file) of every file that a configuration made by `tokenizer_config` names.

    Raises:
        MissingFileError: one is not there.
    """
    found = []
    for name in getattr(config, "FILES", ()):
        named = getattr(config, name)
        found += [(name, Path(each)) for each in ((named,) if isinstance(named, str) else named) if each]
    for name, path in found:
        if not path.is_file():
            raise MissingFileError(f"{path}: no such file", f"{flag(name)} names an input file")
    return found


def tokenizer_config(method: str, options: dict[str, Any], *, paper: bool = False) -> Any:
    """The checked configuration of `method`; paper: as the paper has it where `options` are silent.

    Raises:
        UsageError: an unknown method, or an option that this method does not have.
    """
    if method not in TOKENIZERS:
        raise UsageError(f"--method is {method!r}; known: {', '.join(TOKENIZERS)}{nearest(method, TOKENIZERS)}")
    cls, where = TOKENIZERS[method][1], f"--method {method}"
    return from_mapping(cls, papers(cls, options, what=where) if paper else options, where=where)


def build_tokenizer(method: str, config: Any) -> Any:
    """The tokenizer of a configuration made by `tokenizer_config`."""
    module, name = TOKENIZERS[method][0].split(":")
    return getattr(import_module(module), name)(config)
