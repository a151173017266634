"""tune: systems with equal budgets -> their best settings on validation."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from bbqrec_cli.config import agreed, option, stored
from bbqrec_cli.errors import DataError, InterruptedRunError, UsageError
from bbqrec_cli.models.registry import MODELS
from bbqrec_cli.origin import command_line
from bbqrec_cli.progress import SILENT, Progress
from bbqrec_cli.registry import Registry
from bbqrec_cli.stages.train import LearningConfig, TrainConfig
from bbqrec_cli.tuning.systems import System, make_systems, model_of

if TYPE_CHECKING:
    from bbqrec_cli.tuning.result import TuneResult
    from bbqrec_cli.tuning.study import Study

LEDGER, JOURNAL, LOCK = "tuning.h5", "journal.log", "tune.lock"
"""Files in the work folder."""
TRIALS = 20


@dataclass(frozen=True, kw_only=True)
class TuneConfig(LearningConfig):
    """Options of `bbqrec tune`; those of the models, which are then not tuned, are in `options`."""

    registry: ClassVar[Registry] = MODELS
    choice: ClassVar[str] = "model"
    many_methods: ClassVar[bool] = True

    input: Path = option(
        Path("tokens.h5"), "Tokens file; for models without semantic IDs, any file with interactions.", role="input",
        positional=True, complete=".h5",
    )  # fmt: skip
    output: Path | None = option(None, "Work folder; by default tune-NAME, after the input.", role="output", short="-o")
    model: tuple[str, ...] = option(
        (), "Models, each from its defaults, such as sasrec,gru4rec.", agreed=False, complete="models"
    )
    recipe: tuple[str, ...] = option(
        (), "Recipes, each a system more, with its settings in the first trial.", agreed=False, complete="recipes"
    )
    trials: int | None = option(
        None, "Trials of each system. [default: 20, with --minutes no limit]", agreed=False, minimum=1
    )
    minutes: float = option(
        0.0, "Time of each system's trials, in minutes; the last one is cut there. 0: no limit.", agreed=False,
        minimum=0,
    )  # fmt: skip
    report: Path | None = option(None, "Write a page: .html (self-contained), .md, .tex or .csv.", role="output")
    show_space: bool = option(False, "Print what is tried for each system, and do nothing else.", role="runtime")
    force: bool = option(False, "Overwrite an existing page. Trials that are done are never run again.", role="output")
    options: dict = option({}, agreed=False)

    @classmethod
    def methods(cls, given: Mapping[str, Any]) -> tuple[str, ...]:
        """The models of all systems. Raises: UsageError: a recipe that is none."""
        models, recipes = (_listed(given.get(key, ())) for key in ("model", "recipe"))
        return tuple(dict.fromkeys([*models, *map(model_of, recipes)])) or (MODELS.default,)

    @property
    def systems(self) -> list[System]:
        """What is tuned. Raises: the errors of `make_systems`."""
        models = self.model or (() if self.recipe else (MODELS.default,))
        return make_systems(models, self.recipe, self.options, validate_every=self.validate_every)

    @property
    def budget(self) -> dict[str, Any]:
        """Of each system: trials and minutes, 0 for no limit."""
        return {"trials": self.trials or (0 if self.minutes else TRIALS), "minutes": self.minutes}


def _listed(value: Any) -> list[str]:
    values = value.split(",") if isinstance(value, str) else value if isinstance(value, (list, tuple)) else ()
    return [str(each) for each in values if each]


def run(config: TuneConfig, progress: Progress = SILENT) -> TuneResult:
    """Run the trials that the budget still allows, system by system in turn; then write recipes and the page.

    Raises:
        UsageError, MissingFileError, DataError: options or an input that do not fit; another run in the folder, or
            trials of other options or inputs in it.
        LackingError: the device or Optuna is not there.
        InterruptedRunError: interrupted; the same command goes on.
    """
    from bbqrec_cli.benchmark.run import make_folder
    from bbqrec_cli.hdf5 import check_there, sha256
    from bbqrec_cli.locks import locked
    from bbqrec_cli.pages.page import check_page
    from bbqrec_cli.tuning.study import Study, import_optuna, open_journal

    systems = config.systems
    check_there(config.input, "tokens")
    optuna = import_optuna()
    if config.report:
        check_page(config.report, force=config.force)
    check_input(config, systems)
    for system in systems:
        if not system.space:
            progress.log(f"{system.name}: none of its options says what to try; one trial of its settings")
    folder = config.output or Path(f"tune-{config.input.stem}")
    for recipe in config.recipe:
        if Path(recipe).exists() and Path(recipe).resolve().parent == folder.resolve():
            what = f"--recipe {recipe}: it lies where the best settings are written"
            raise UsageError(what, "-o elsewhere, so that they do not take its place")
    make_folder(folder)
    origin = _origin(config, optuna.__version__)
    with locked(folder, LOCK):
        storage, content = open_journal(folder / JOURNAL), sha256(config.input)
        studies = [
            Study(
                storage, system, seed=config.seed, identity=identity(config, system, content),
                reports=system.validations,
            )
            for system in systems
        ]  # fmt: skip
        for study in studies:
            check_budget(config, study)
        earlier = earlier_trials(folder / LEDGER, systems, content)
        try:
            while todo := [study for study in studies if left(config, study)]:
                for study in todo:
                    one_more(config, study, origin, progress)
                    write_ledger(config, folder, studies, earlier)
        except (InterruptedRunError, KeyboardInterrupt):
            done = sum(len(study.outcomes()) for study in studies)
            what = f"interrupted; {done} finished trials are kept in {folder}"
            raise InterruptedRunError(what, "the same command goes on") from None
        write_ledger(config, folder, studies, earlier)
        return summarise(config, folder, studies)


def check_input(config: TuneConfig, systems: Sequence[System]) -> None:
    """Raises: DataError: a model lacks what it needs, or there is nobody to validate on; the errors of reading."""
    from bbqrec_cli.data.splits import nobody, split_of
    from bbqrec_cli.hdf5 import read_item_data
    from bbqrec_cli.models.registry import check_needs, model_config, model_settings

    catalogue, data = read_item_data(config.input)
    for system in systems:
        check_needs(system.model, model_settings(model_config(system.model, system.base)), data)
    if not len(split_of(catalogue.sequences).validation.users):
        raise DataError(f"{config.input}: {nobody(catalogue)}: nothing to validate on", "bbqrec prepare")


def identity(config: TuneConfig, system: System, content: str) -> dict[str, Any]:
    """What must be the same when a system's trials go on. content: checksum of the input."""
    base = {key: value for key, value in system.options({}).items() if key in system.base}
    about = system.to_json()
    return {
        "config": agreed(config) | {"validate_every": system.validate_every},
        "model": about["model"],
        "options": base,
        "tried": about["tried"],
        "input": content,
    }


def most_trials(config: TuneConfig, study: Study) -> int:
    """A system's budget of trials, 0 for no limit. Where nothing is tuned, one is all there is."""
    return config.budget["trials"] if study.system.space else 1


def left(config: TuneConfig, study: Study) -> bool:
    """Whether a system's budget allows another trial."""
    trials = most_trials(config, study)
    time_left = not config.minutes or minutes_left(config, study.outcomes()) > 0
    return (not trials or len(study.whole()) < trials) and time_left


def minutes_left(config: TuneConfig, outcomes: Sequence[Mapping[str, Any]]) -> float:
    """What is left of a system's minutes after these trials."""
    return config.minutes - sum(each["seconds"] for each in outcomes) / 60


def check_budget(config: TuneConfig, study: Study) -> None:
    """Raises: UsageError: a system has had more than the budget, in which the others would stay behind it."""
    had, trials = study.outcomes(), most_trials(config, study)
    before = minutes_left(config, had[:-1]) if config.minutes and had else 1.0
    if (trials and len(had) > trials) or before <= 0:
        took = f"{len(had)} trials of {sum(each['seconds'] for each in had) / 60:.3g} minutes"
        what = f"{study.system.name} has had more than this budget in this folder: {took}"
        raise UsageError(what, "give all systems the larger budget, or -o elsewhere")


def one_more(config: TuneConfig, study: Study, origin: Mapping[str, Any], progress: Progress) -> None:
    """Run a system's next trial."""
    from bbqrec_cli.tuning.trial import run_trial

    trial, values = study.ask()
    number = len(study.whole()) + 1
    said = ", ".join(f"{name} {value}" for name, value in values.items())
    progress.log(f"{study.system.name}, trial {number}{f': {said}' if said else ''}")
    learning = {f.name: getattr(config, f.name) for f in dataclasses.fields(LearningConfig)}
    learning["validate_every"] = study.system.validate_every
    minutes = minutes_left(config, study.whole()) if config.minutes else 0.0
    training = TrainConfig(**learning, input=config.input, minutes=minutes)
    outcome = run_trial(study.system, trial, values, training, origin, progress)
    study.tell(trial, outcome)
    if outcome["status"] == "failed":
        progress.warn(f"{study.system.name}, trial {number} failed: {outcome['error']}")
    else:
        ndcg = outcome["figures"]["ndcg@10"]
        progress.log(f"{study.system.name}, trial {number} {outcome['status']}: validation ndcg@10 {ndcg:.4f}")


def trials_of(studies: Sequence[Study]) -> list[dict[str, Any]]:
    """The finished trials of all systems, as the ledger has them: the first of each, then the second of each."""
    numbered = [
        (number, {"system": study.system.name, "model": study.system.model, "number": number} | outcome)
        for study in studies
        for number, outcome in enumerate(study.outcomes(), 1)
    ]
    return [trial for _, trial in sorted(numbered, key=lambda each: each[0])]


def earlier_trials(ledger: Path, systems: Sequence[System], content: str) -> dict[str, Any]:
    """What a ledger has of other systems than these: systems and trials. content: checksum of the input.

    Raises: DataError: they are of another input; the errors of reading.
    """
    from bbqrec_cli.hdf5 import describe, read_tuning

    if not ledger.exists():
        return {"systems": {}, "trials": []}
    if describe(ledger)["parents"][0]["sha256"] != content:
        raise DataError(f"{ledger}: its trials are of another input", "give -o elsewhere")
    had, now = read_tuning(ledger), {system.name for system in systems}
    return {
        "systems": {name: each for name, each in had["systems"].items() if name not in now},
        "trials": [each for each in had["trials"] if each["system"] not in now],
    }


def write_ledger(config: TuneConfig, folder: Path, studies: Sequence[Study], earlier: Mapping[str, Any]) -> None:
    """Write every finished trial to the ledger. earlier: see `earlier_trials`."""
    from bbqrec_cli.hdf5 import write_tuning

    systems = {study.system.name: study.system.to_json() for study in studies}
    trials = [*earlier["trials"], *trials_of(studies)]
    tuning = {"systems": earlier["systems"] | systems, "budget": config.budget, "trials": trials}
    write_tuning(folder / LEDGER, tuning, config=stored(config), parents=[config.input])


def summarise(config: TuneConfig, folder: Path, studies: Sequence[Study]) -> TuneResult:
    """The result; the best settings are written as recipes, and the page if it is asked for."""
    from bbqrec_cli.hdf5 import read_catalogue
    from bbqrec_cli.tuning.report import write_report
    from bbqrec_cli.tuning.result import TuneResult

    trials = trials_of(studies)
    recipes = {study.system.name: write_recipe(config, folder, study.system, trials) for study in studies}
    result = TuneResult(
        output=folder, report=config.report, source=config.input.name, exclude_seen=config.exclude_seen,
        splitting=read_catalogue(config.input).splitting.note,
        budget=config.budget, systems=[study.system for study in studies], trials=trials,
        recipes={name: path for name, path in recipes.items() if path}, command=command_line("tune", config),
    )  # fmt: skip
    if config.report:
        write_report(config.report, result, force=config.force)
    return result


def write_recipe(config: TuneConfig, folder: Path, system: System, trials: Sequence[Mapping[str, Any]]) -> Path | None:
    """Write a system's best settings where `train --recipe` can read them; None if every trial failed."""
    from bbqrec_cli.recipes import as_toml
    from bbqrec_cli.tuning.result import best_of

    own = [dict(each) for each in trials if each["system"] == system.name]
    best = best_of(own)
    if best is None:
        return None
    figures = ", ".join(f"{name} {value:.4f}" for name, value in best["figures"].items())
    head = f"{system.name} tuned on {config.input.name}: trial {best['number']} of {len(own)}, the best by NDCG@10 on\n"
    head += (
        f"validation ({figures}; seed {config.seed}, seen items {'left out' if config.exclude_seen else 'included'})."
    )
    values = {"model": system.model, **best["options"]}
    values |= {"validate_every": system.validate_every} if system.validate_every > 1 else {}
    values |= {"exclude_seen": True} if config.exclude_seen else {}
    path = folder / f"{system.name}.toml"
    path.write_text(as_toml(head, {"train": values}), encoding="utf-8")
    return path


def _origin(config: TuneConfig, optuna: str) -> dict[str, Any]:
    from bbqrec_cli.origin import origin

    found = origin(config.device, config.threads)
    return found | {"packages": found["packages"] | {"optuna": optuna}}
