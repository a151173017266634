from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from bbqrec_cli.config import option
from bbqrec_cli.data.sources.options.s3rec import S3RecOptions


@dataclass(frozen=True, kw_only=True)
class LetterOptions(S3RecOptions):
    """The folder of LETTER, LC-Rec, MQL4GRec, MiniOneRec: X.inter.json, X.item.json, X.index.json, X.emb-….npy."""

    implementation: ClassVar[str] = "bbqrec_cli.data.sources.letter:Letter"
    example: ClassVar[str] = "bbqrec prepare letter FOLDER"
    own_files: ClassVar[tuple[str, ...]] = (r".+\.inter\.json",)

    text_embeddings: Path | None = option(
        None, "Embeddings of the texts (.npy), rows in the order of the item ids. [default: the one X.emb-…-td.npy]",
        role="input", complete=".npy",
    )  # fmt: skip
    image_embeddings: Path | None = option(
        None, "Embeddings of the pictures (.npy). [default: the one other X.emb-….npy]", role="input", complete=".npy"
    )
