"""bbqrec's files. See docs/file-formats.md."""

from bbqrec_cli.grouping import group_codes
from bbqrec_cli.hdf5.files import (
    check_finite,
    describe,
    read_benchmark,
    read_catalogue,
    read_checkpoint,
    read_codes,
    read_dataset,
    read_feature_rows,
    read_features,
    read_metrics,
    read_model,
    read_tokens,
    write_benchmark,
    write_checkpoint,
    write_dataset,
    write_features,
    write_metrics,
    write_model,
    write_tokens,
)
from bbqrec_cli.hdf5.sink import check_output
from bbqrec_cli.hdf5.store import open_file, sha256

__all__ = [
    "check_finite",
    "check_output",
    "describe",
    "group_codes",
    "open_file",
    "read_benchmark",
    "read_catalogue",
    "read_checkpoint",
    "read_codes",
    "read_dataset",
    "read_feature_rows",
    "read_features",
    "read_metrics",
    "read_model",
    "read_tokens",
    "sha256",
    "write_benchmark",
    "write_checkpoint",
    "write_dataset",
    "write_features",
    "write_metrics",
    "write_model",
    "write_tokens",
]
