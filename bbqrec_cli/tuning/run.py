"""tune: systems with equal budgets -> their best settings on validation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from bbqrec_cli.config import agreed, flag, option, stored
from bbqrec_cli.errors import DataError, InterruptedRunError, OutputExistsError, UsageError
from bbqrec_cli.models.registry import MODELS
from bbqrec_cli.origin import command_line
from bbqrec_cli.progress import SILENT, Progress
from bbqrec_cli.registry import Registry
from bbqrec_cli.tuning.budget import (
    BudgetConfig,
    check_budget,
    check_had,
    check_input,
    left,
    may_have_more,
    one_more,
    origin_of,
    study_of,
    trials_of,
)
from bbqrec_cli.tuning.systems import System, in_effect, make_systems, model_of

if TYPE_CHECKING:
    from bbqrec_cli.tuning.result import TuneResult
    from bbqrec_cli.tuning.study import Study

LEDGER, JOURNAL, LOCK = "tuning.h5", "journal.log", "tune.lock"
"""Files in the work folder."""
TUNED = "tuned on"
"""So begins the comment of a recipe, after the system's name."""


@dataclass(frozen=True, kw_only=True)
class TuneConfig(BudgetConfig):
    """Options of `bbqrec tune`; those of the models, which are then not tuned, are in `options`."""

    registry: ClassVar[Registry] = MODELS
    choice: ClassVar[str] = "model"
    many_methods: ClassVar[bool] = True

    output: Path | None = option(None, "Work folder; by default tune-NAME, after the input.", role="output", short="-o")
    model: tuple[str, ...] = option(
        (),
        "Models, each from its defaults, such as sasrec,gru4rec. [default: bbqrec, unless there is a --recipe]",
        agreed=False,
        complete="models",
    )
    recipe: tuple[str, ...] = option(
        (), "Recipes, each a system more, with its settings in the first trial.", agreed=False, complete="recipes"
    )
    report: Path | None = option(None, "Write a page: .html (self-contained), .md, .tex or .csv.", role="output")
    show_space: bool = option(False, "Print what is tried for each system, and do nothing else.", role="runtime")
    force: bool = option(
        False, "Overwrite an existing page and recipes of yours. Trials that are done are never run again.",
        role="output",
    )  # fmt: skip
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
    from bbqrec_cli.hdf5 import check_there, describe_parent
    from bbqrec_cli.locks import locked
    from bbqrec_cli.outputs import make_folder
    from bbqrec_cli.pages.page import check_page
    from bbqrec_cli.tuning.study import import_optuna, open_journal

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
    _check_recipes(config, folder, systems)
    make_folder(folder)
    origin = origin_of(config, optuna.__version__)
    with locked(folder, LOCK):
        storage, tuned_on = open_journal(folder / JOURNAL), describe_parent(config.input)
        content = tuned_on["sha256"]
        earlier = earlier_trials(config, folder, systems, content, progress)  # what is refused leaves no study behind
        studies = [study_of(config, system, storage, content) for system in systems]
        for study in studies:
            check_budget(config, study)
        try:
            while todo := [study for study in studies if left(config, study)]:
                fewest = min(len(study.whole()) for study in todo)
                for study in (each for each in todo if len(each.whole()) == fewest):
                    one_more(config, study, origin, progress)
                    write_ledger(config, folder, studies, earlier, tuned_on)
        except (InterruptedRunError, KeyboardInterrupt):
            done = sum(len(study.outcomes()) for study in studies)
            what = f"interrupted; {done} finished trials are kept in {folder}"
            raise InterruptedRunError(what, "the same command goes on") from None
        write_ledger(config, folder, studies, earlier, tuned_on)
        return summarise(config, folder, studies)


def _check_recipes(config: TuneConfig, folder: Path, systems: Sequence[System]) -> None:
    """Raises: OutputExistsError: a file that `tune` did not write has the name of one that it will write."""
    for path in (folder / f"{system.name}.toml" for system in systems):
        if not config.force and path.exists() and not path.read_bytes().startswith(f"# {path.stem} {TUNED}".encode()):
            what = f"{path}: is not of bbqrec tune, which writes the best settings there"
            raise OutputExistsError(what, "-o elsewhere, or --force to overwrite it")


def earlier_trials(
    config: TuneConfig, folder: Path, systems: Sequence[System], content: str, progress: Progress
) -> dict[str, Any]:
    """What a folder's ledger has of other systems than these: systems and trials. content: checksum of the input.

    Raises:
        DataError: they are of another input, or had other options or a larger budget; the errors of reading.
    """
    from bbqrec_cli.hdf5 import describe, read_tuning

    ledger = folder / LEDGER
    if not ledger.exists():
        return {"systems": {}, "trials": []}
    if describe(ledger)["parents"][0]["sha256"] != content:
        raise DataError(f"{ledger}: its trials are of another input", "give -o elsewhere")
    had, now = read_tuning(ledger), {system.name for system in systems}
    others = {name: each for name, each in had["systems"].items() if name not in now}
    trials = [each for each in had["trials"] if each["system"] not in now]
    before = describe(ledger)["config"]
    for key, value in agreed(config).items() if others else ():
        if before.get(key, value) != value:
            what = f"{ledger}: {', '.join(others)} had {flag(key)} {before[key]}, not {value}"
            raise DataError(what, "give the same, so that all are tuned alike, or -o elsewhere")
    of = {name: [each for each in trials if each["system"] == name] for name in others}
    for name in others:
        check_had(config, name, of[name], config.budget["trials"])
    behind = [name for name, each in others.items() if each["tried"] and may_have_more(config, of[name])]
    if behind:
        progress.warn(f"{', '.join(behind)}: less than this budget was spent in {folder}; name all, for equal ones")
    return {"systems": others, "trials": trials}


def write_ledger(
    config: TuneConfig, folder: Path, studies: Sequence[Study], earlier: Mapping[str, Any], tuned_on: Mapping[str, Any]
) -> None:
    """Write every finished trial to the ledger. earlier: see `earlier_trials`; tuned_on: the input as it was read."""
    from bbqrec_cli.hdf5 import write_tuning

    systems = {study.system.name: study.system.to_json() for study in studies}
    trials = [*earlier["trials"], *trials_of(studies)]
    tuning = {"systems": earlier["systems"] | systems, "budget": config.budget, "trials": trials}
    write_tuning(folder / LEDGER, tuning, config=stored(config), parents=[tuned_on])


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
    from bbqrec_cli.outputs import replacing
    from bbqrec_cli.recipes import as_toml
    from bbqrec_cli.tuning.result import best_of

    own = [dict(each) for each in trials if each["system"] == system.name]
    best = best_of(own)
    if best is None:
        return None
    figures = ", ".join(f"{name} {value:.4f}" for name, value in best["figures"].items())
    head = f"{system.name} {TUNED} {config.input.name}: trial {best['number']} of {len(own)}, the best by NDCG@10 on\n"
    head += (
        f"validation ({figures}; seed {config.seed}, seen items {'left out' if config.exclude_seen else 'included'})."
    )
    values = {"model": system.model, **in_effect(system.model, best["options"])}
    values |= {"validate_every": system.validate_every} if system.validate_every > 1 else {}
    values |= {"exclude_seen": True} if config.exclude_seen else {}
    path = folder / f"{system.name}.toml"
    with replacing(path) as partial:
        partial.write_text(as_toml(head, {"train": values}), encoding="utf-8")
    return path
