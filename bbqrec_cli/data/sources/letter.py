"""The folder of LETTER, LC-Rec, MQL4GRec and MiniOneRec: sequences and items as `s3rec` reads them, with embeddings.

X.inter.json: user -> items; X.item.json: item -> title, description, …; X.index….json: semantic IDs; X.emb-….npy:
one row per item, in the order of the ids, which count from 0. I items, d width.
"""

from __future__ import annotations

import dataclasses
import glob
import shlex
from pathlib import Path

import numpy as np

from bbqrec_cli.data.sources.base import Interactions, Items
from bbqrec_cli.data.sources.files import read_json
from bbqrec_cli.data.sources.options.letter import LetterOptions
from bbqrec_cli.data.sources.paths import one_of, only_path
from bbqrec_cli.data.sources.s3rec import S3Rec
from bbqrec_cli.errors import DataError, MissingFileError
from bbqrec_cli.hdf5 import check_finite
from bbqrec_cli.progress import Progress
from bbqrec_cli.records import Feature

_INTER = ".inter.json"
_FLAGS = {"text": "--text-embeddings", "image": "--image-embeddings"}


class Letter:
    """PATH: a folder with one X.inter.json, or that file.

    Raises:
        UsageError: not one path.
        MissingFileError, DataError: no X.inter.json, or several; several embeddings of one kind.
    """

    minimum = 0

    def __init__(self, paths: list[Path], options: LetterOptions, *, seed: int, progress: Progress) -> None:
        self._file = _sequences_of(only_path(paths, "letter", "bbqrec prepare letter FOLDER"))
        folder, name = self._file.parent, self._file.name.removesuffix(_INTER)
        beside = folder / f"{name}.item.json"
        items = options.items or (beside if beside.is_file() else None)
        images = options.images or (folder / "images" if (folder / "images").is_dir() else None)
        # X.item.json has the ids of X.inter.json, which count from 0; an items file of another kind may not.
        shift = 0 if options.items is None and options.id_shift is None else options.id_shift
        rows = dataclasses.replace(options, items=items, images=images, id_shift=shift)
        self._rows = S3Rec([self._file], rows, seed=seed, progress=progress)
        self.images = self._rows.images
        self._shift, self._progress = options.id_shift, progress
        self._indices = sorted(folder.glob(f"{glob.escape(name)}.index*.json"))
        self._embeddings = _embeddings_of(folder, name, options)
        self.files = [*self._rows.files, *self._indices, *self._embeddings.values()]

    def interactions(self) -> Interactions:
        """Raises: as those of `s3rec`."""
        made = self._rows.interactions()
        self._ids = set(made.item_ids)
        return made

    def items(self, item_ids: list[str]) -> Items:
        """Fields, pictures and embeddings; says how to use the semantic IDs.

        Raises:
            DataError: embeddings whose rows are not those of the items; and what `s3rec` raises.
        """
        made = self._rows.items(item_ids)
        self._say_indices()
        known = self._ids | (set() if self._shift else self._rows.entries)
        features = {kind: self._feature(kind, path, item_ids, known) for kind, path in self._embeddings.items()}
        return dataclasses.replace(made, features=features)

    def _say_indices(self) -> None:
        if not self._indices:
            return
        for path in self._indices:
            known = read_json(path, '{"0": ["<a_183>", "<b_70>"]}')
            if without := len(self._ids - known.keys()):
                what = f"{path.name}: {without:,} of {len(self._ids):,} items have no semantic ID under their own id"
                self._progress.warn(f"{what}; tokenize says whether the ids are shifted by one")
        files = ",".join(map(str, self._indices))
        command = f"bbqrec tokenize FEATURES.h5 --method published --index {shlex.quote(files)}"
        self._progress.log(f"semantic IDs: {', '.join(path.name for path in self._indices)}; to use them: {command}")

    def _feature(self, kind: str, path: Path, item_ids: list[str], known: set[str]) -> Feature:
        """The vectors (I, d) of the items, where row n is that of item n. known: all items that need a row.

        Raises:
            DataError: not a matrix of numbers, NaN, or not one row per item of the items file.
        """
        try:
            # Not np.load, which may run what a file holds.
            values = np.lib.format.open_memmap(path, mode="r")
        except (OSError, ValueError) as error:
            raise DataError(f"{path}: not a .npy file of numbers ({error})", "np.save(path, array)") from error
        if values.ndim != 2 or values.dtype.kind != "f":
            raise DataError(f"{path}: {values.dtype} of shape {values.shape}; a row of floats per item is needed")
        numbers = {int(item) for item in known if item.isdecimal()}
        if numbers != set(range(len(values))) or len(numbers) != len(known):
            what = f"{path}: {len(values):,} rows, but {len(known):,} items, whose ids "
            what += f"are {min(numbers)} to {max(numbers)}" if numbers else "are no numbers"
            raise DataError(f"{what}; row n must be that of item n, from 0", f"give other {_FLAGS[kind]}, or remove it")
        rows = np.array([int(item) for item in item_ids])
        found = values[rows].astype(np.float32)
        check_finite(found, item_ids, str(path))
        self._progress.log(f"{path.name}: {found.shape[1]} numbers per item, as the feature '{kind}'")
        return Feature(values=found, present=np.ones(len(rows), bool), encoder=path.stem)


def _sequences_of(path: Path) -> Path:
    """The X.inter.json.

    Raises:
        MissingFileError: there is none; the hint says what reads what there is.
        DataError: several.
    """
    if path.is_file():
        return path
    if found := one_of(sorted(path.glob(f"*{_INTER}")), path, "name it"):
        return found
    hint = "give the folder that holds it"
    if list(path.glob("*.test.inter")):
        hint = f"bbqrec prepare recbole {shlex.quote(str(path))} reads such files"
    elif (path / "info").is_dir() or list(path.glob("*/info")):
        hint = "MiniOneRec's train, valid and test tables split interactions by time; its preprocessing writes the "
        hint += "X.inter.json that is needed"
    raise MissingFileError(f"{path}: no X.inter.json in it", hint)


def _embeddings_of(folder: Path, name: str, options: LetterOptions) -> dict[str, Path]:
    """text, image -> the file of embeddings. Raises: DataError: several of one kind, and none was named."""
    given = {"text": options.text_embeddings, "image": options.image_embeddings}
    found = sorted(folder.glob(f"{glob.escape(name)}.emb-*.npy"))
    made = {}
    for kind, path in given.items():
        those = [each for each in found if each.stem.endswith("-td") == (kind == "text")]
        if chosen := path or one_of(those, folder, f"{_FLAGS[kind]} {next(iter(those), '')}"):
            if not chosen.is_file():
                raise MissingFileError(f"{chosen}: no such file", f"{_FLAGS[kind]} names embeddings")
            made[kind] = chosen
    return made
