"""Everything of bbqrec that the check uses beside its command line, in one place."""

from __future__ import annotations

from bbqrec_cli.data.batches import WindowBatches
from bbqrec_cli.data.splits import split_of
from bbqrec_cli.encoders import load_encoder
from bbqrec_cli.errors import InterruptedRunError, MissingPackageError
from bbqrec_cli.hdf5 import (
    describe,
    read_dataset,
    read_features,
    read_metrics,
    read_model,
    read_tokens,
    write_dataset,
    write_features,
    write_tokens,
)
from bbqrec_cli.models.base import Recommender
from bbqrec_cli.models.registry import load_model
from bbqrec_cli.origin import commit, processor
from bbqrec_cli.progress import Silent
from bbqrec_cli.records import Catalogue, Codes, Feature, Features, Sequences, Tokens, TrainedModel, Vocabulary
from bbqrec_cli.stages import evaluate, tokenize, train
from bbqrec_cli.tokenizers.registry import build_tokenizer, tokenizer_config

__all__ = [
    "Catalogue",
    "Codes",
    "Feature",
    "Features",
    "InterruptedRunError",
    "MissingPackageError",
    "Recommender",
    "Sequences",
    "Silent",
    "Tokens",
    "TrainedModel",
    "Vocabulary",
    "WindowBatches",
    "build_tokenizer",
    "commit",
    "describe",
    "evaluate",
    "load_encoder",
    "load_model",
    "processor",
    "read_dataset",
    "read_features",
    "read_metrics",
    "read_model",
    "read_tokens",
    "split_of",
    "tokenize",
    "tokenizer_config",
    "train",
    "write_dataset",
    "write_features",
    "write_tokens",
]
