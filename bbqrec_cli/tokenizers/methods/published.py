"""Published semantic IDs, from index files in JSON. I items, L levels."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bbqrec_cli.errors import DataError, UsageError
from bbqrec_cli.formats.semantic_id_json import align, load_index, signal_names
from bbqrec_cli.records import Codes
from bbqrec_cli.tokenizers.base import Tokenized, TokenizerInput
from bbqrec_cli.tokenizers.options.published import PublishedConfig
from bbqrec_cli.training.trainer import RunSettings


class Published:
    """A tokenizer that reads the codes from `config.index` and learns nothing."""

    needs_features = False

    def __init__(self, config: PublishedConfig) -> None:
        self.config = config

    def fit(self, inputs: TokenizerInput, run: RunSettings) -> Tokenized:
        """The published codes of the catalogue's items, one signal per file.

        Raises:
            UsageError: no index was given.
            MissingFileError, BrokenFileError, DataError: as `load_index` and `align`; files with different levels.
        """
        if not self.config.index:
            raise UsageError("--method published needs --index", "bbqrec tokenize --method published --index FILE.json")
        paths = [Path(each) for each in self.config.index]
        found = [load_index(path) for path in paths]
        parts = []
        for path, index in zip(paths, found, strict=True):
            codes, note = align(index.item_ids, index.codes, inputs.item_ids, where=str(path))
            if codes.shape[1] != found[0].codes.shape[1]:
                levels = f"{codes.shape[1]} levels, and {paths[0]} has {found[0].codes.shape[1]}"
                raise DataError(f"{path}: {levels}", "give indices with the same number of levels")
            for each in filter(None, (index.note, note)):
                run.progress.log(f"{path}: {each}")
            parts.append(codes)
        signals, note = signal_names(found)
        if note:
            run.progress.log(note)
        values = np.concatenate(parts, axis=2)
        size = int(values.max(initial=0)) + 1
        suffix = len(found) == 1 and bool(found[0].note)
        made = Codes(codes=values, modalities=signals, method=self.config.name, codebook_size=size, suffix=suffix)
        return Tokenized(codes=made, history=[])
