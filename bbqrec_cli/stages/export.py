"""export: any file of bbqrec -> the files of other programs."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from bbqrec_cli.config import StageConfig, input_files, option
from bbqrec_cli.errors import DataError, UsageError
from bbqrec_cli.progress import SILENT, Progress
from bbqrec_cli.serving.options import ServingConfig

if TYPE_CHECKING:
    import numpy as np

    from bbqrec_cli.formats.tables import Table
    from bbqrec_cli.records import Codes, Dataset

CARRIED = {
    "recbole": ("interactions",),
    "letter": ("interactions",),
    "minionerec": ("interactions",),
    "parquet": ("interactions", "features", "ids", "recommendations", "results"),
    "csv": ("interactions", "features", "ids", "recommendations", "results"),
    "npz": ("features", "ids"),
    "safetensors": ("features", "ids"),
}
"""Format -> what it can carry."""
HELD = {
    "dataset": ("interactions", "features"),
    "features": ("features", "interactions"),
    "tokens": ("ids", "interactions"),
    "model": ("recommendations", "ids", "features", "interactions"),
    "metrics": ("results",),
}
"""Kind of a file -> what it holds, the default first."""
ALL = ("interactions", "features", "ids", "recommendations", "results")
FOLDERS = ("recbole", "letter", "minionerec")


@dataclass(frozen=True, kw_only=True)
class ExportConfig(ServingConfig):
    """Options of `bbqrec export`."""

    without: ClassVar[frozenset[str]] = frozenset({"seed"})

    file: Path = option(help="Dataset, features, tokens, model or metrics file.", role="input", positional=True,
                        complete=".h5")  # fmt: skip
    to: str = option(help="Format.", choices=tuple(CARRIED))
    what: str | None = option(
        None, "What of the file. [default: interactions of a dataset, features, ids of a tokens file, recommendations "
        "of a model, results of a metrics file; interactions for recbole, letter, minionerec]",
        choices=ALL,
    )  # fmt: skip
    output: Path | None = option(
        None, "File or folder to write. The folder's name is that of the data set. [default: FILE-FORMAT, of a single "
        "file FILE-WHAT.FORMAT]", role="output", short="-o",
    )  # fmt: skip
    history: int = option(20, "Items before each target in the splits of recbole and minionerec.", minimum=1)


@dataclass(frozen=True, kw_only=True)
class ExportResult:
    """What `bbqrec export --json` prints.

    rows: table -> its rows, or users, items and interactions; mapped: which names had to change (users, items, fields);
    left_out: users that the format cannot hold; read_back: the command with which bbqrec reads it again, or ''.
    """

    output: Path
    format: str
    what: str
    files: tuple[str, ...]
    rows: dict[str, int]
    mapped: tuple[str, ...] = ()
    left_out: int = 0
    read_back: str = ""

    def to_json(self) -> dict[str, Any]:
        """The keys that docs/scripting.md names."""
        texts = {"output": str(self.output), "files": list(self.files), "mapped": list(self.mapped)}
        return dataclasses.asdict(self) | texts


def run(config: ExportConfig, progress: Progress = SILENT) -> ExportResult:
    """Read the file, write the other program's files, whole or not at all.

    Raises:
        UsageError: the format or the file has no such thing; the errors of reading a file.
        DataError: something that the format cannot carry.
        OutputExistsError, LackingError, DiskFullError: as for every output.
    """
    from bbqrec_cli.hdf5 import describe, sha256

    kind = describe(config.file)["kind"]
    what = chosen(kind, config)
    about = {
        "format": f"bbqrec export --to {config.to}", "what": what, "made_from": config.file.name, "kind": kind,
        "sha256": sha256(config.file),
    }  # fmt: skip
    if config.to in FOLDERS:
        return _for_trainers(config, about, progress)
    if config.to in ("npz", "safetensors"):
        return _arrays(config, what)
    return _tables(config, what, about, progress)


def chosen(kind: str, config: ExportConfig) -> str:
    """What is exported. Raises: UsageError: the kind or the format has no such thing."""
    held, carried = HELD.get(kind, ()), CARRIED[config.to]
    if not held:
        known = ", ".join(HELD)
        raise UsageError(f"{config.file}: a {kind} file; export takes {known} files", "bbqrec inspect says what it has")
    if not set(held) & set(carried):
        fitting = " or ".join(name for name, those in CARRIED.items() if set(held) & set(those))
        raise UsageError(f"{config.file}: --to {config.to} carries nothing of a {kind} file", f"--to {fitting}")
    what = config.what or ("interactions" if config.to in FOLDERS else held[0])
    if what not in held:
        hint = f"--what {' or '.join(held)}"
        raise UsageError(f"{config.file}: a {kind} file has no {what}", hint)
    if what not in carried:
        fitting = " or ".join(name for name, those in CARRIED.items() if what in those)
        raise UsageError(f"--to {config.to} carries {', '.join(carried)}, not {what}", f"--to {fitting}")
    serving = [f.name for f in dataclasses.fields(ServingConfig) if f.name not in StageConfig.__dataclass_fields__]
    for name in ("history", *serving):
        used = ("recbole", "minionerec") if name == "history" else ("recommendations",)
        changed = getattr(config, name) != type(config).__dataclass_fields__[name].default
        if changed and not {config.to, what} & set(used):
            raise UsageError(f"--{name.replace('_', '-')} has no effect on {what} as {config.to}", "leave it out")
    return what


def _read(path: Path) -> tuple[Dataset, Codes | None]:
    """Catalogue, texts and features of a file of any kind that has a catalogue, and its semantic IDs."""
    from bbqrec_cli.hdf5 import open_file, read_dataset, read_item_data
    from bbqrec_cli.records import Dataset

    with open_file(path) as file:
        kind = file.kind
    if kind == "dataset":
        return read_dataset(path), None
    catalogue, data = read_item_data(path)
    nothing = [""] * catalogue.items
    return Dataset(catalogue=catalogue, texts=nothing, images=[], features=data.features), data.codes


def _output(config: ExportConfig, what: str, suffix: str) -> Path:
    """The output that was named, or FILE-FORMAT, for one file FILE-WHAT.FORMAT, in the working directory."""
    return config.output or Path(f"{config.file.stem}-{what}.{suffix}" if suffix else f"{config.file.stem}-{config.to}")


def _for_trainers(config: ExportConfig, about: Mapping[str, Any], progress: Progress) -> ExportResult:
    """RecBole's, LETTER's or MiniOneRec's folder."""
    from bbqrec_cli.data.splits import EVALUATED, split_of
    from bbqrec_cli.formats.letter import write_letter, write_minionerec
    from bbqrec_cli.formats.output import files_in, whole_folder
    from bbqrec_cli.formats.recbole import write_recbole
    from bbqrec_cli.records import LAST

    dataset, codes = _read(config.file)
    if config.to == "minionerec" and codes is None:
        raise UsageError(f"{config.file}: has no semantic IDs, which MiniOneRec needs", "give a tokens file")
    output = _output(config, "interactions", "")
    name, catalogue = output.absolute().name, dataset.catalogue
    if config.to == "letter" and catalogue.splitting != LAST:
        said = f"the split of {config.file} is {catalogue.splitting}"
        raise UsageError(
            f"{said}; LETTER's trainers hold out each user's last two items",
            "--to recbole or minionerec, or prepare it with --split last",
        )
    split = split_of(catalogue.sequences, history=config.history)
    mapped, left_out = {}, 0
    with whole_folder(output, about, force=config.force) as folder:
        if config.to == "recbole":
            mapped = write_recbole(folder, name, dataset, split, history=config.history)
        elif config.to == "letter":
            left_out = write_letter(folder, name, dataset, codes)
        else:
            assert codes is not None
            write_minionerec(folder, name, dataset, codes, split, history=config.history)
    if mapped:
        progress.warn(
            f"{', '.join(mapped)}: {config.to} would misread some names, so they are written as others; "
            f"{output / name}.map.json has both"
        )
    if left_out:
        what = f"{left_out:,} users with fewer than {EVALUATED} interactions are left out"
        progress.warn(f"{what}: the trainers hold out two items of every user")
    if config.to != "recbole" and codes is not None:
        _say_shared(codes, progress)
    if config.to == "letter":
        for kind, feature in dataset.features.items():
            if lacking := int((~feature.present).sum()):
                progress.warn(f"{kind}: {lacking:,} items have no vector; the file has zeros there")
    _say_lost(config, dataset, progress)
    lengths = catalogue.sequences.lengths
    written = lengths if config.to != "letter" else lengths[lengths >= EVALUATED]
    rows = {"users": len(written), "items": catalogue.items, "interactions": int(written.sum())}
    return ExportResult(
        output=output, format=config.to, what="interactions", files=files_in(output), rows=rows, mapped=tuple(mapped),
        left_out=left_out, read_back=read_back(config.to, output, dataset),
    )  # fmt: skip


def _say_shared(codes: Codes, progress: Progress) -> None:
    from bbqrec_cli.grouping import group_codes

    token_of_item, sharing = group_codes(codes.codes)
    if count := int((sharing[token_of_item] > 1).sum()):
        progress.warn(f"{count:,} items share their ID: these trainers count a hit on any of them as a hit")


def _say_lost(config: ExportConfig, dataset: Dataset, progress: Progress) -> None:
    """Say what the files do not hold, and warn if readers that sort by time would change the order."""
    import numpy as np

    from bbqrec_cli.records import LAST

    sequences = dataset.catalogue.sequences
    if sequences.timestamps is not None:
        falls = np.diff(sequences.timestamps) < 0
        ends = sequences.indptr[1:-1] - 1
        falls[ends[(ends >= 0) & (ends < len(falls))]] = False
        if falls.any():
            progress.warn("the times of some users decrease; what sorts by time will change the order of interactions")
    if config.to == "recbole" and dataset.catalogue.splitting != LAST:
        progress.log("RecBole has the split; prepare recbole does not read it, and would make its own")
    if count := sum(map(bool, dataset.images)):
        progress.log(f"{count:,} pictures are not written")


def read_back(to: str, output: Path, dataset: Dataset) -> str:
    """The command with which `prepare` reads the interactions and items again, as far as the format holds them; '' if
    none does."""
    from bbqrec_cli.data.sources.table import PICTURE_FIELDS
    from bbqrec_cli.formats.letter import read_back_options
    from bbqrec_cli.formats.tables import PART
    from bbqrec_cli.records import LAST

    source = {"recbole": "recbole", "letter": "letter", "csv": "table", "parquet": "table"}.get(to)
    if to == "parquet" and set(map(str.casefold, dataset.catalogue.attributes)) & set(PICTURE_FIELDS):
        source = "huggingface"  # `table` would take these fields for paths of pictures
    if source is None:
        return ""
    words = ["bbqrec", "prepare", source, shlex.quote(str(output))]
    if to == "letter":
        words += map(shlex.quote, read_back_options(output, dataset))
    else:
        timed = dataset.catalogue.sequences.timestamps is not None
        words += ["--time-unit", "s"] if timed else ["--order", "file"]
        words += ["--text-fields", "text"] if any(dataset.texts) else []
        words += ["--split-column", PART] if source == "table" and dataset.catalogue.splitting != LAST else []
    return " ".join(words)


def _arrays(config: ExportConfig, what: str) -> ExportResult:
    """Vectors or semantic IDs as .npz or safetensors."""
    from bbqrec_cli.formats import tables
    from bbqrec_cli.formats.output import whole_file

    output = _output(config, what, config.to)
    with whole_file(output, force=config.force, inputs=[config.file]) as path:
        dataset, codes = _read(config.file)
        ids, about = dataset.catalogue.item_ids, {}
        arrays: dict[str, np.ndarray]
        if what == "features":
            arrays = tables.arrays_of_features(_features(config.file, dataset))
            about = {"encoders": [each.encoder for each in dataset.features.values()]}
        else:
            codes = _codes(config.file, codes)
            arrays = tables.arrays_of_ids(codes)
            about = {"modalities": list(codes.modalities)}
        write = tables.write_npz if config.to == "npz" else tables.write_safetensors
        write(path, arrays, ids, about)
    return ExportResult(
        output=output, format=config.to, what=what, files=(output.name,), rows={"items": len(ids)}
    )  # fmt: skip


def _features(path: Path, dataset: Dataset) -> Mapping[str, Any]:
    from bbqrec_cli.hdf5 import describe

    if not dataset.features:
        made = f"bbqrec embed {shlex.quote(str(path))}" if describe(path)["kind"] == "dataset" else "its features file"
        raise DataError(f"{path}: has no features", f"{made}, or --what interactions")
    return dataset.features


def _codes(path: Path, codes: Codes | None) -> Codes:
    if codes is None:
        raise DataError(f"{path}: has no semantic IDs", "give a tokens file, or a model that uses IDs")
    return codes


def _tables(config: ExportConfig, what: str, about: Mapping[str, Any], progress: Progress) -> ExportResult:
    """CSV or Parquet: a file, or a folder of several tables."""
    from bbqrec_cli.formats import output as whole
    from bbqrec_cli.formats import tables

    write = tables.write_csv if config.to == "csv" else tables.write_parquet
    again = ""
    made: Sequence[Table]
    if what == "interactions":
        dataset, _ = _read(config.file)
        made = tables.interactions_tables(dataset)
        _say_lost(config, dataset, progress)
    elif what == "features":
        dataset, _ = _read(config.file)
        made = tables.features_tables(dataset.catalogue, _features(config.file, dataset))
    elif what == "ids":
        dataset, codes = _read(config.file)
        made = [tables.ids_table(dataset.catalogue, _codes(config.file, codes))]
    elif what == "results":
        from bbqrec_cli.hdf5 import read_metrics

        made = [tables.results_table(read_metrics(config.file))]
    else:
        made = [_recommendations(config, progress)]
    rows = {}
    if what == "interactions" or len(made) > 1:
        output = _output(config, what, "")
        with whole.whole_folder(output, about, force=config.force) as folder:
            for table in made:
                rows[table.name] = write(folder / f"{table.name}.{config.to}", table)
        again = read_back(config.to, output, dataset) if what == "interactions" else ""
        files = whole.files_in(output)
    else:
        output = _output(config, what, config.to)
        with whole.whole_file(output, force=config.force, inputs=[path for _, path in input_files(config)]) as path:
            rows[made[0].name] = write(path, made[0])
        files = (output.name,)
    return ExportResult(output=output, format=config.to, what=what, files=files, rows=rows, read_back=again)


def _recommendations(config: ExportConfig, progress: Progress) -> Table:
    """user, rank, item, title, score: the best items for every user with interactions, batch by batch; a warning where
    fewer than --top are left."""
    from bbqrec_cli.device import resolve_device, set_threads
    from bbqrec_cli.formats.tables import Table
    from bbqrec_cli.serving.filters import allowed_items
    from bbqrec_cli.serving.requests import Request, request_batches
    from bbqrec_cli.serving.session import Session, recommendation_columns

    set_threads(config.threads)
    session = Session.open(config.file, config.tokens, resolve_device(config.device), config.unite)
    catalogue = session.catalogue
    allowed = allowed_items(catalogue, config.filter, config.allow, config.deny, progress)
    users = [user for user, length in enumerate(catalogue.sequences.lengths.tolist()) if length]
    requests = (Request(catalogue.user_ids[user], catalogue.sequences[user].astype("int64")) for user in users)

    def batches() -> Iterator[dict[str, list[Any]]]:
        lacking = without = 0
        with progress.task("recommendations", len(users)) as task:
            for asked in request_batches(requests, config.batch_size):
                found = list(session.answer(asked, config, allowed))
                lacking += sum(len(each.items) < config.top for each in found)
                without += sum(not each.items for each in found)
                yield recommendation_columns(found)
                task.advance(len(asked))
        if lacking:
            none = f", {without:,} of them none, who have no row" if without else ""
            progress.warn(f"{lacking:,} of {len(users):,} users have fewer than {config.top} items left (--top){none}")

    kinds: dict[str, str | int] = {"user": "str", "rank": "int", "item": "str", "title": "str", "score": "float"}
    return Table(name="recommendations", columns=kinds, batches=batches())
