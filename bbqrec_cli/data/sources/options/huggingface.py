from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from bbqrec_cli.data.sources.options._items import LogColumns


@dataclass(frozen=True, kw_only=True)
class HuggingFaceOptions(LogColumns):
    """A Hugging Face data set on disk (save_to_disk), or Parquet files; a row per interaction or per user."""

    implementation: ClassVar[str] = "bbqrec_cli.data.sources.huggingface:HuggingFace"
    example: ClassVar[str] = "bbqrec prepare huggingface FOLDER"
