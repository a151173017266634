"""The toolkit from Python: `import bbqrec_cli as bbqrec`. See docs/python.md.

A function per stage, with the options of its command; `load` opens what they write. Like `cli/`, it turns what people
say into configurations and calls stages; nothing imports it.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, TypeAlias, cast, overload

from bbqrec_cli.errors import BBQRecError, UsageError, environment_error
from bbqrec_cli.frames import Framed
from bbqrec_cli.progress import Progress, ToPython, Without
from bbqrec_cli.settings import build

if TYPE_CHECKING:
    from bbqrec_cli.benchmark.compare import CompareResult
    from bbqrec_cli.records import Catalogue
    from bbqrec_cli.serving.session import Recommendation
    from bbqrec_cli.stages.collisions import CollisionsResult
    from bbqrec_cli.stages.embed import EmbedResult
    from bbqrec_cli.stages.evaluate import EvaluateResult
    from bbqrec_cli.stages.export import ExportResult
    from bbqrec_cli.stages.prepare import PrepareResult
    from bbqrec_cli.stages.train import TrainResult
    from bbqrec_cli.tokenizers.assignment.config import AssignmentResult

File: TypeAlias = Any
"""A path as str or Path, or the result of the function that wrote the file."""
Listener: TypeAlias = "bool | Callable[[str], None]"
"""False: quiet; True: as on the command line, on stderr; a function: called with each note. Warnings are Python's."""
SERVED = ("top", "beam", "include_seen", "exclude_seen", "batch_size")
"""Options of `bbqrec recommend` that a loaded model takes as they are."""


def prepare(
    source: Any, *paths: Any, items: Any = None, output: File = None, progress: Listener = False, **options: Any
) -> PrepareResult:
    """Turn raw data into a dataset file (`bbqrec prepare`).

    Args:
        source: the format, such as "table", with the files or folders as `paths`; or a frame of interactions from
            pandas or polars, which is read by the rules of `table`.
        items: of `table`: a file or a frame.
        output: the dataset file to write; by default dataset.h5.
        options: as `bbqrec prepare SOURCE --help` lists them.

    Raises:
        UsageError, DataError, MissingFileError, LackingError and the errors of writing files. Errors about a frame name
        its rows as lines of a table below a line of names.
    """
    from bbqrec_cli.data.sources.frame import is_frame
    from bbqrec_cli.stages.prepare import PrepareConfig, run

    if is_frame(source):
        source, paths = "table", (source, *paths)
    given = options | {"source": source, "paths": list(paths), "items": items, "output": output}
    if any(map(is_frame, (*paths, items))):
        return _prepare_frames(given, _listener(progress))
    with _errors():
        return run(_config("prepare", (PrepareConfig,), given), _listener(progress))


def _prepare_frames(given: dict[str, Any], progress: Progress) -> PrepareResult:
    """Frames go through files in a folder of their own; what is recorded and said has their names without it."""
    from bbqrec_cli.data.sources.frame import is_frame, write_frame
    from bbqrec_cli.data.sources.registry import open_source, source_options
    from bbqrec_cli.stages.prepare import PrepareConfig, run

    with TemporaryDirectory(prefix="bbqrec-") as folder, _errors(without=f"{folder}{os.sep}"):
        ids = {role: given.get(f"{role}_column") for role in ("user", "item")}
        files, progress = list[Path](), Without(progress, f"{folder}{os.sep}")
        for place, each in enumerate(given["paths"]):
            name = f"interactions-{place + 1}.csv" if place else "interactions.csv"
            files.append(Path(folder, name) if is_frame(each) else _plain(each))
            if is_frame(each):
                write_frame(each, files[-1], items=False, **ids)
                given["paths"][place] = files[-1].name
        of_items = Path(folder, "items.csv")
        if framed := is_frame(given["items"]):
            write_frame(given["items"], of_items, items=True, **ids)
            given["items"] = of_items.name
        config = _config("prepare", (PrepareConfig,), given)
        options = source_options(config.source, config.options)
        options = dataclasses.replace(options, items=of_items) if framed else options
        source = open_source(config.source, list(map(Path, files)), options, seed=config.seed, progress=progress)
        return run(config, progress, source)


def embed(
    dataset: File = None, *, output: File = None, progress: Listener = False, **options: Any
) -> EmbedResult:  # fmt: skip
    """Encode the texts and pictures of a dataset file, by default dataset.h5, as features (`bbqrec embed`).

    Raises: UsageError, DataError, LackingError and the errors of reading and writing files.
    """
    from bbqrec_cli.stages.embed import EmbedConfig, run

    with _errors():
        return run(
            _config("embed", (EmbedConfig,), options | {"dataset": dataset, "output": output}), _listener(progress)
        )


def tokenize(
    features: File = None, *, output: File = None, progress: Listener = False, **options: Any
) -> AssignmentResult:
    """Learn semantic IDs from a features file, by default features.h5; with `append=`, give IDs to new items
    (`bbqrec tokenize`).

    Raises: UsageError, DataError, CollapseError, LackingError and the errors of reading and writing files.
    """
    from bbqrec_cli.stages import append
    from bbqrec_cli.stages import tokenize as fitting

    classes = (append.AppendConfig, fitting.TokenizeConfig)
    with _errors():
        config = _config("tokenize", classes, options | {"features": features, "output": output})
        run = append.run if isinstance(config, append.AppendConfig) else fitting.run
        return run(config, _listener(progress))


def collisions(*input: File, progress: Listener = False, **options: Any) -> CollisionsResult:
    """Which items share a semantic ID and why, in one file or several, by default tokens.h5 (`bbqrec collisions`).

    Raises: UsageError, CollisionError, MissingPackageError and the errors of reading files.
    """
    from bbqrec_cli.stages.collisions import CollisionsConfig, run

    with _errors():
        config = _config("collisions", (CollisionsConfig,), options | {"input": list(input) or None})
        result = run(config, _listener(progress))
        result.check(config.max_collisions)
        return result


def train(input: File = None, *, output: File = None, progress: Listener = False, **options: Any) -> TrainResult:
    """Train a recommender on a tokens file, by default tokens.h5, or what its model needs instead (`bbqrec train`).

    Raises: UsageError, DataError, LackingError and the errors of reading and writing files.
    """
    from bbqrec_cli.stages.train import TrainConfig, run

    with _errors():
        return run(_config("train", (TrainConfig,), options | {"input": input, "output": output}), _listener(progress))


def evaluate(
    model: File = None, *, output: File = None, progress: Listener = False, **options: Any
) -> EvaluateResult:  # fmt: skip
    """Measure a model file, by default model.h5, under full ranking (`bbqrec evaluate`); `to_pandas()` has every user.

    Raises: UsageError, DataError, LackingError and the errors of reading and writing files.
    """
    from bbqrec_cli.stages.evaluate import EvaluateConfig, run

    with _errors():
        return run(
            _config("evaluate", (EvaluateConfig,), options | {"model": model, "output": output}), _listener(progress)
        )


def recommend(model: File = None, *, progress: Listener = False, **options: Any) -> Recommendations:
    """Recommend to users of a model file, by default model.h5, or for one history (`bbqrec recommend`).

    `load(model).recommend(…)` keeps the model in memory, and takes several histories.

    Raises: UsageError, LackingError and the errors of reading a model file.
    """
    from bbqrec_cli.stages.recommend import RecommendConfig, run

    if options.get("stdin"):
        raise UsageError("bbqrec.recommend reads no stdin", "bbqrec.load(model).recommend([history, …])")
    with _errors():
        asked = {name: options[name] for name in ("user", "history") if options.get(name) is not None}
        ids = {name: list(map(_id, _several(each))) for name, each in asked.items()}
        config = _config("recommend", (RecommendConfig,), options | ids | {"model": model})
        return Recommendations(cast("Iterable[Recommendation]", run(config, _listener(progress))))


def compare(*input: File, progress: Listener = False, **options: Any) -> CompareResult:
    """Which of several metrics files is ahead, where and for whom (`bbqrec compare`); one list of files will do, too.

    Raises: UsageError, DataError and the errors of reading and writing files.
    """
    from bbqrec_cli.benchmark.compare import CompareConfig, run

    with _errors():
        files = input[0] if len(input) == 1 and isinstance(input[0], (list, tuple)) else input
        return run(_config("compare", (CompareConfig,), options | {"input": list(files)}), _listener(progress))


def export(file: File, *, output: File = None, progress: Listener = False, **options: Any) -> ExportResult:
    """Write what a file holds for another program, `to=` a format (`bbqrec export`).

    Raises: UsageError, DataError, MissingPackageError, LackingError and the errors of reading and writing files.
    """
    from bbqrec_cli.stages.export import ExportConfig, run

    with _errors():
        return run(_config("export", (ExportConfig,), options | {"file": file, "output": output}), _listener(progress))


def inspect(file: File) -> dict[str, Any]:
    """What any of bbqrec's files holds and what it was made from (`bbqrec inspect --json`).

    Raises: MissingFileError, BrokenFileError, UnsafeFileError, WrongKindError, NewerVersionError.
    """
    from bbqrec_cli.stages.inspect import InspectConfig, run

    with _errors():
        return run(_config("inspect", (InspectConfig,), {"file": file}))


def load(file: File = "model.h5", *, tokens: File = None, unite: Sequence[File] = (), device: str = "auto") -> Any:
    """What a file holds: a `Model` that recommends, or the record (`bbqrec_cli.records`) of a dataset, features, tokens
    or metrics file.

    Args:
        tokens, unite, device: of a model, see `Model`.

    Raises:
        UsageError: `tokens` or `unite` for another kind than a model.
        MissingFileError, BrokenFileError, UnsafeFileError, WrongKindError, NewerVersionError, LackingError.
    """
    from bbqrec_cli import hdf5

    readers: dict[str, Callable[[Path], Any]] = {
        "dataset": hdf5.read_dataset, "features": hdf5.read_features, "tokens": hdf5.read_tokens,
        "metrics": hdf5.read_metrics,
    }  # fmt: skip
    path = Path(_plain(file))
    with _errors():
        with hdf5.open_file(path, "model", *readers) as opened:
            kind = opened.kind
        if kind == "model":
            return Model(path, tokens=tokens, unite=unite, device=device)
        if tokens is not None or unite:
            raise UsageError(f"{path}: is a {kind} file; tokens= and unite= are for model files", "leave them out")
        return readers[kind](path)


class Model:
    """A model file in memory.

    catalogue: its users, items and interactions (`records.Catalogue`).

    Args:
        tokens: an extended tokens file (`tokenize(…, append=…)`), whose users and new items are served, too.
        unite: further model files of the same data; what all recommend is united, by reciprocal ranks.
        device: auto, cpu, cuda or mps.

    Raises:
        UsageError, DataError, LackingError and the errors of reading files.
    """

    def __init__(self, file: File, *, tokens: File = None, unite: Sequence[File] = (), device: str = "auto") -> None:
        from bbqrec_cli.device import resolve_device
        from bbqrec_cli.serving.session import Session

        self.path = Path(_plain(file))
        extended = None if tokens is None else Path(_plain(tokens))
        with _errors():
            more = [Path(_plain(each)) for each in _several(unite)]
            self._session = Session.open(self.path, extended, resolve_device(device), more)
        self.catalogue: Catalogue = self._session.catalogue

    def __repr__(self) -> str:
        return f"<Model {self.path}: {self.catalogue.items:,} items, {self.catalogue.users:,} users>"

    def recommend(
        self, history: Any = None, *, user: Any = None, filter: Any = (), allow: Any = None, deny: Any = None,
        **options: Any,
    ) -> Recommendations:  # fmt: skip
        """The best items for one history or several, or for users of the file.

        Args:
            history: item ids, oldest first; or a list of such lists. Ids that the file does not have are left out, and
                listed as `unknown`.
            user: the id of a user of the file, or several.
            filter: {attribute: value}: only items that have it; or as --filter has it.
            allow, deny: item ids, the only candidates, or none of them; or a file of such.
            options: top, beam, include_seen and batch_size of `bbqrec recommend`.

        Raises:
            UsageError: an unknown user, item, attribute or option, a history without a known item, or no item is left.
        """
        from bbqrec_cli.serving.filters import allowed_items
        from bbqrec_cli.serving.requests import history_request, request_batches, user_request
        from bbqrec_cli.stages.recommend import RecommendConfig, answers

        if (history is None) == (user is None):
            raise UsageError("bbqrec: one of history and user is needed", "model.recommend(['item', …])")
        for name in options:
            if name in _names(RecommendConfig) and name not in SERVED:
                raise UsageError(f"model.recommend has no option {name!r}", "bbqrec.recommend(model, …) has all")
        filters = [f"{name}={value}" for name, value in filter.items()] if isinstance(filter, Mapping) else filter
        config = _config("recommend", (RecommendConfig,), options | {"filter": _several(filters)})
        with _errors():
            if user is not None:
                asked = [user_request(self.catalogue, _id(u), where="user", error=UsageError) for u in _several(user)]
            else:
                given = _histories(history)
                names = [f"history {number}" for number in range(len(given))] if len(given) > 1 else ["history"]
                asked = [
                    history_request(self.catalogue, "", ids, where=name, error=UsageError)
                    for name, ids in zip(names, given, strict=True)
                ]
            allowed = allowed_items(self.catalogue, config.filter, _listed(allow), _listed(deny), ToPython())
            made = (
                each
                for batch in request_batches(asked, config.batch_size)
                for each in answers(self._session, list(batch), config, allowed)
            )
            return Recommendations(cast("Iterable[Recommendation]", made))


class Recommendations(Framed, Sequence["Recommendation"]):
    """Recommendations, one per history or user; in a frame one row per item."""

    def __init__(self, made: Iterable[Recommendation]) -> None:
        self._made = list(made)

    @overload
    def __getitem__(self, place: int) -> Recommendation: ...
    @overload
    def __getitem__(self, place: slice) -> list[Recommendation]: ...
    def __getitem__(self, place: int | slice) -> Recommendation | list[Recommendation]:
        return self._made[place]

    def __len__(self) -> int:
        return len(self._made)

    def __repr__(self) -> str:
        first = [[item.id for item in each.items] for each in self._made[:3]]
        return f"<Recommendations for {len(self)}: {first}{'…' if len(self) > 3 else ''}>"

    def columns(self) -> dict[str, list[Any]]:
        """request (its place, from 0), user (None for a history), rank from 1, item, title, score."""
        from bbqrec_cli.serving.session import recommendation_columns

        request = [number for number, each in enumerate(self._made) for _ in each.items]
        return {"request": request} | recommendation_columns(self._made)


# What people say


def _config(name: str, classes: Sequence[type], given: Mapping[str, Any]) -> Any:
    """The configuration of a stage; None: not given."""
    kept = {key: _plain(value) for key, value in given.items() if value is not None}
    return build(classes, name, kept, {}, file="", where=f"bbqrec.{name}")


def _names(cls: Any) -> list[str]:
    return [f.name for f in dataclasses.fields(cls)]


def _plain(value: Any) -> Any:
    """An option's value: results by the files that they name, NumPy's numbers as Python's."""
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    if isinstance(value, os.PathLike):
        return Path(value)
    if isinstance(getattr(value, "output", None), Path):
        return value.output
    if isinstance(value, Model):
        return value.path
    return value.tolist() if hasattr(value, "tolist") else value


def _several(value: Any) -> list[Any]:
    return [value] if isinstance(value, (str, int)) or not hasattr(value, "__iter__") else list(value)


def _listed(items: Any) -> Path | list[str] | None:
    """Item ids, or the file that lists them."""
    if items is None or isinstance(items, (str, os.PathLike)):
        return None if items is None else Path(items)
    return [_id(item) for item in items]


def _histories(history: Any) -> list[list[str]]:
    """The ids of one history or of several."""
    found = _several(history)
    several = bool(found) and all(hasattr(each, "__iter__") and not isinstance(each, str) for each in found)
    return [[_id(item) for item in each] for each in (found if several else [found])]


def _id(value: Any) -> str:
    """An id as files keep it. Raises: UsageError: neither a text nor a whole number."""
    from bbqrec_cli.data.sources.files import id_text

    value = value.tolist() if hasattr(value, "tolist") else value
    if (found := id_text(value)) is None:
        raise UsageError(f"{value!r} is no id; a text or a whole number is needed", "give ids of the catalogue")
    return found


def _listener(progress: Listener) -> Progress:
    if progress is True:
        from bbqrec_cli.cli.console import Console

        return Console()
    return ToPython(progress or None)


@contextmanager
def _errors(*, without: str = "") -> Iterator[None]:
    """Errors as on the command line: also what another package says of a lack of memory, disk or packages.

    without: a text to leave out of messages.
    """
    try:
        yield
    except BBQRecError as error:
        error.message, error.hint = error.message.replace(without, ""), error.hint.replace(without, "")
        error.args = (error.message,)
        raise
    except Exception as error:
        if (lacking := environment_error(error)) is not None:
            raise lacking from error
        raise
