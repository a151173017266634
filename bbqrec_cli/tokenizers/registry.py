"""Name -> tokenizer and its configuration, imported only when asked for."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from bbqrec_cli.config import from_mapping, nearest, papers
from bbqrec_cli.errors import UsageError
from bbqrec_cli.tokenizers.configs import BBQRecConfig, PublishedConfig, RQVAEConfig

TOKENIZERS: dict[str, tuple[str, type]] = {
    "bbqrec": ("bbqrec_cli.tokenizers.bbqrec:BBQRec", BBQRecConfig),
    "rqvae": ("bbqrec_cli.tokenizers.rqvae:RQVAE", RQVAEConfig),
    "published": ("bbqrec_cli.tokenizers.published:Published", PublishedConfig),
}
CONFIGS = tuple(config for _, config in TOKENIZERS.values())


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
