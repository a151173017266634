"""evaluate: a trained model -> Recall, NDCG and MRR under full ranking, with every user's result."""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from bbqrec_cli.config import StageConfig, option, stored
from bbqrec_cli.device import PRECISIONS
from bbqrec_cli.errors import DataError, UsageError
from bbqrec_cli.frames import Framed
from bbqrec_cli.outputs import one_at_a_time
from bbqrec_cli.progress import SILENT, Progress
from bbqrec_cli.serving.options import beam_option, unite_option

if TYPE_CHECKING:
    import numpy as np

    from bbqrec_cli.data.splits import HeldOut
    from bbqrec_cli.evaluation.diagnosis import Diagnosable
    from bbqrec_cli.evaluation.significance import Rows
    from bbqrec_cli.models.base import Recommender
    from bbqrec_cli.records import Catalogue, Codes, Metrics, Splitting, TrainedModel


SLICES = {"history_length": (5, 10, 20), "target_interactions": (0, 5, 20, 100)}
"""Of users: the last number of each range, see `evaluation.metrics.slices`."""


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig(StageConfig):
    """Options of `bbqrec evaluate`."""

    model: Path = option(Path("model.h5"), "Model file.", role="input", positional=True, complete=".h5")
    output: Path = option(Path("metrics.h5"), "Metrics file to write.", role="output", short="-o", complete=".h5")
    split: str = option("test", "test or validation.", choices=("test", "validation"))
    k: tuple[int, ...] = option((5, 10), "Cut-offs k of the metrics.", minimum=1)
    exclude_seen: bool = option(
        False, "Leave the items of a user's history out of the ranking, the target never. Numbers of the two kinds are "
        "not comparable."
    )  # fmt: skip
    beam: int | None = beam_option()
    batch_size: int = option(256, "Users per batch.", minimum=1)
    precision: str = option("auto", "auto, fp32 or bf16 autocast.", choices=PRECISIONS)
    tokens: Path | None = option(
        None, "Extended tokens file (tokenize --append): evaluate on its users and rank its new items too, untrained.",
        role="input", complete=".h5",
    )  # fmt: skip
    unite: tuple[Path, ...] = unite_option()
    slices: bool = option(False, "Also show the metrics by history length and by the target's interactions.")
    diagnose: bool = option(False, "Also diagnose a generator: its codes, its beam, its heads.")
    diagnose_users: int = option(
        2000, "Users to diagnose on, evenly spaced: so many or somewhat more; 0: all.", minimum=0
    )
    against: Path | None = option(
        None, "Metrics file to compare with: paired t-test and Wilcoxon test.", role="input", complete=".h5"
    )


@dataclass(frozen=True, kw_only=True)
class EvaluateResult(Framed):
    """What `bbqrec evaluate --json` prints; in a frame, one row per user.

    splitting: how the interactions are divided, in words; targets: those of all users; unevaluated: users without one.
    """

    output: Path
    model: str
    split: str
    splitting: str
    exclude_seen: bool
    users: int
    targets: int
    unevaluated: int
    aggregates: dict[str, float]
    confidence: dict[str, tuple[float, float]]
    significance: dict[str, dict[str, Any]]
    """See `compare`."""
    seconds: float
    """From the model in memory to the ranks of all users."""
    ms_per_user: float
    """Milliseconds of ranking per user, without loading, after a warm-up batch."""
    lists: dict[str, float]
    """See `list_figures`."""
    cold: dict[str, Any]
    """See `cold_figures`."""
    slices: dict[str, list[dict[str, Any]]]
    """See `sliced`."""
    metrics: Metrics = field(repr=False)
    """What the file holds."""
    diagnosis: dict[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        """The keys that docs/scripting.md names."""
        head: dict[str, Any] = {"output": str(self.output), "model": self.model, "split": self.split}
        head |= {"splitting": self.splitting, "exclude_seen": self.exclude_seen}
        head |= {"users": self.users, "targets": self.targets}
        tail = {"unevaluated": self.unevaluated, "significance": self.significance, "seconds": self.seconds}
        tail |= {"ms_per_user": self.ms_per_user, "cold": self.cold, "slices": self.slices}
        return head | self.aggregates | {"confidence": self.confidence} | self.lists | tail | {
            "diagnosis": self.diagnosis
        }  # fmt: skip

    def columns(self) -> dict[str, list[Any]]:
        """See `Metrics.columns`; of this evaluation, also where its file has been overwritten."""
        return self.metrics.columns()


@one_at_a_time
def run(config: EvaluateConfig, progress: Progress = SILENT) -> EvaluateResult:
    """Rank all items for every evaluated user of the split (docs/protocol.md).

    Raises:
        UsageError, DataError, LackingError and the errors of reading and writing files.
    """
    import numpy as np

    from bbqrec_cli.data.splits import nobody, split_of
    from bbqrec_cli.device import resolve_device, resolve_precision, set_threads
    from bbqrec_cli.evaluation.comparison import trained_otherwise
    from bbqrec_cli.evaluation.metrics import list_figures
    from bbqrec_cli.evaluation.protocol import target_ranks
    from bbqrec_cli.evaluation.significance import Rows
    from bbqrec_cli.hdf5 import check_there, describe_parent, read_metrics, write_metrics
    from bbqrec_cli.models.united import load_united
    from bbqrec_cli.origin import ran_on
    from bbqrec_cli.outputs import check_output

    if not config.k:
        raise UsageError("--k is empty", "--k 5,10")
    if config.tokens is not None and config.unite:
        raise UsageError("--tokens and --unite exclude each other", "give one of them")
    if config.diagnose and config.unite:
        raise UsageError("--diagnose and --unite exclude each other", "give one of them")
    models = (config.model, *config.unite)
    given = [(path, "model") for path in models] + [(config.tokens, "tokens"), (config.against, "metrics")]
    for path, kind in given:
        if path is not None:
            check_there(path, kind)
    parents = [*models, *filter(None, [config.tokens])]
    check_output(config.output, force=config.force, inputs=[*parents, *filter(None, [config.against])])
    inputs_read = [describe_parent(path) for path in parents]
    set_threads(config.threads)
    other = read_metrics(config.against) if config.against else None
    device = resolve_device(config.device)
    every = _models(config)
    interactions, catalogue = training_interactions(every[0].catalogue), every[0].catalogue
    if config.tokens is not None:
        every = [_extended(every[0], config)]
        catalogue = every[0].catalogue
    began = time.perf_counter()
    # Items that came after the training have none.
    interactions = np.pad(interactions, (0, catalogue.items - len(interactions)))
    model = load_united(every, device)
    held = getattr(split_of(catalogue.sequences, history=model.history), config.split)
    if not len(held.users):
        raise nobody(config.model, catalogue, "evaluate")
    rows = Rows(
        user_ids=[catalogue.user_ids[user] for user in held.users],
        targets=[catalogue.item_ids[item] for item in held.targets], history_length=held.lengths, items=catalogue.items,
    )  # fmt: skip
    if other:
        check_comparable(config, other, rows, catalogue.splitting)
    precision = resolve_precision(config.precision, device)
    name = " + ".join(each.name for each in every)
    if config.diagnose and not hasattr(model, "stepper"):
        raise UsageError(f"--diagnose: the model {name} does not generate semantic IDs", "leave --diagnose out")
    if config.diagnose and config.exclude_seen:
        raise UsageError("--diagnose keeps seen items in the ranking", "--diagnose without --exclude-seen")
    deepest, beam = max(config.k), config.beam
    if beam and beam < deepest and hasattr(model, "stepper"):
        progress.warn(f"--beam {beam} is less than the largest k: the search has {deepest} beams, for every k")
        beam = deepest
    rank = partial(
        target_ranks, model, depth=deepest, beam=beam, device=device, precision=precision,
        batch_size=config.batch_size, exclude_seen=config.exclude_seen,
    )  # fmt: skip
    rank(held.first(config.batch_size))
    ranking, shown = time.perf_counter(), {k: np.zeros(catalogue.items, dtype=np.int64) for k in config.k}
    ranks = rank(held, shown=shown, progress=progress)
    now = time.perf_counter()
    seconds, ms_per_user = now - began, 1000 * (now - ranking) / len(ranks)
    diagnosis = diagnose_generator(model, held, every[0], config, precision, progress) if config.diagnose else None
    metrics = dataclasses.replace(
        metrics_of(ranks, config, user_ids=rows.user_ids, model=name), lists=list_figures(shown, interactions),
        cold=interactions[held.targets] == 0, history_length=held.lengths,
        target_interactions=interactions[held.targets], targets=rows.targets, splitting=catalogue.splitting,
        items=catalogue.items,
    )  # fmt: skip
    if other and trained_otherwise({str(config.model): metrics, str(config.against): other}):
        progress.warn(f"{config.against}: trained on other interactions than {config.model}")
    provenance = stored(config) | {"beam": beam, "precision": precision, "seconds": seconds, "ms_per_user": ms_per_user}
    write_metrics(
        config.output, metrics, config=provenance, parents=inputs_read, force=config.force,
        origin=ran_on(device, config.threads, precision),
    )  # fmt: skip
    users = len(np.unique(held.users))
    return EvaluateResult(
        output=config.output, model=name, split=config.split, splitting=str(catalogue.splitting),
        exclude_seen=config.exclude_seen, users=users, targets=len(ranks), unevaluated=catalogue.users - users,
        aggregates=metrics.aggregates, confidence=metrics.confidence, seconds=seconds,
        significance=compare(metrics, other, seed=config.seed) if other else {},
        ms_per_user=ms_per_user,
        lists=dict(metrics.lists), cold=cold_figures(metrics, config), slices=sliced(metrics, config.k),
        metrics=metrics, diagnosis=diagnosis,
    )  # fmt: skip


def metrics_of(ranks: np.ndarray, config: EvaluateConfig, *, user_ids: list[str], model: str) -> Metrics:
    """The metrics of every user at every k, their means and intervals. ranks (U,)."""
    from bbqrec_cli.evaluation.metrics import METRICS, aggregate, intervals, ndcg_at_k, recall_at_k
    from bbqrec_cli.records import Metrics

    recall = {k: recall_at_k(ranks, k) for k in config.k}
    ndcg = {k: ndcg_at_k(ranks, k) for k in config.k}
    which = tuple(METRICS)
    return Metrics(
        user_ids=user_ids, ranks=ranks, recall=recall, ndcg=ndcg, aggregates=aggregate(ranks, config.k, which),
        confidence=intervals(ranks, config.k, seed=config.seed, which=which, users=user_ids), model=model,
        split=config.split, exclude_seen=config.exclude_seen,
    )  # fmt: skip


def training_interactions(catalogue: Catalogue) -> np.ndarray:
    """(I,) int64: how often each item stands in the training part."""
    import numpy as np

    from bbqrec_cli.data.splits import split_of

    return np.bincount(split_of(catalogue.sequences).train.items, minlength=catalogue.items)


def sliced(metrics: Metrics, ks: tuple[int, ...]) -> dict[str, list[dict[str, Any]]]:
    """{'history_length', 'target_interactions'}: the rows of `evaluation.metrics.slices`."""
    from bbqrec_cli.evaluation.metrics import slices

    return {name: slices(metrics.ranks, getattr(metrics, name), edges, ks) for name, edges in SLICES.items()}


def cold_figures(metrics: Metrics, config: EvaluateConfig) -> dict[str, Any]:
    """'users': the number of targets without training interactions; if there are any, also the means over them alone
    ('recall@10', …) and their intervals ('confidence')."""
    import numpy as np

    from bbqrec_cli.evaluation.metrics import METRICS, aggregate, intervals

    assert metrics.cold is not None  # `run` has just made it
    ranks, which, found = metrics.ranks[metrics.cold], tuple(METRICS), {}
    if len(ranks):
        users = np.asarray(metrics.user_ids)[metrics.cold].tolist()
        limits = intervals(ranks, config.k, seed=config.seed, which=which, users=users)
        found = aggregate(ranks, config.k, which) | {"confidence": limits}
    return {"users": len(ranks)} | found


def _models(config: EvaluateConfig) -> list[TrainedModel]:
    """The model and those to unite with it. Raises: DataError: they do not go together; the errors of reading them."""
    from bbqrec_cli.data.leakage import check_held_out
    from bbqrec_cli.models.united import read_models

    every = read_models(config.model, config.unite)
    for path, other in zip(config.unite, every[1:], strict=True):
        check_held_out(other, every[0].catalogue, name=path, where=config.model)
    return every


def _extended(trained: TrainedModel, config: EvaluateConfig) -> TrainedModel:
    """The model for the users and items of `config.tokens`. Raises: DataError: they do not go together; the errors of
    reading the file."""
    from bbqrec_cli.data.leakage import check_held_out
    from bbqrec_cli.hdf5 import read_tokens
    from bbqrec_cli.models.new_items import with_tokens

    assert config.tokens is not None
    extended = with_tokens(trained, read_tokens(config.tokens), where=str(config.tokens))
    check_held_out(trained, extended.catalogue, name=config.model, where=config.tokens)
    return extended


def diagnose_generator(
    model: Recommender, held: HeldOut, trained: TrainedModel, config: EvaluateConfig, precision: str, progress: Progress
) -> dict[str, Any]:
    """`evaluation.diagnosis.diagnose` on a subsample of the users, ready for JSON."""
    from bbqrec_cli.data.splits import subsample_users
    from bbqrec_cli.device import resolve_device
    from bbqrec_cli.evaluation.diagnosis import diagnose

    found = diagnose(
        cast("Diagnosable", model), subsample_users(held, config.diagnose_users),
        signals=cast("Codes", trained.codes).modalities, ks=config.k, device=resolve_device(config.device),
        precision=precision, progress=progress,
    )  # fmt: skip
    return dataclasses.asdict(found)


def check_comparable(config: EvaluateConfig, other: Metrics, rows: Rows, splitting: Splitting) -> None:
    """Check before the long work. Raises: DataError: another split or protocol, other targets or no k in common."""
    from bbqrec_cli.evaluation.comparison import PROTOCOLS, check_same_data

    if other.splitting != splitting:
        raise DataError(
            f"{config.against}: the interactions were split otherwise ({other.splitting}; here {splitting})",
            "evaluate models of one dataset file",
        )
    if other.split != config.split:
        raise DataError(
            f"{config.against}: of the {other.split} split, not the {config.split} split", f"--split {other.split}"
        )
    if other.exclude_seen != config.exclude_seen:
        theirs, ours = PROTOCOLS[other.exclude_seen], PROTOCOLS[config.exclude_seen]
        what = f"{config.against}: made with {theirs}, this one has {ours}"
        raise DataError(what, "--exclude-seen" if other.exclude_seen else "leave --exclude-seen out")
    if not set(other.recall) & set(config.k):
        raise DataError(
            f"{config.against}: has no metrics at k = {','.join(map(str, config.k))}",
            f"--k {','.join(map(str, sorted(other.recall)))}",
        )
    check_same_data(str(config.model), rows, str(config.against), other)


def compare(metrics: Metrics, other: Metrics, *, seed: int) -> dict[str, dict[str, Any]]:
    """Both systems on every metric that both files have: metric -> the other's mean ('against'), this one's less it
    ('difference') with its paired 95% bootstrap interval ('confidence'), and p-values ('t_test', 'wilcoxon').

    Means are over targets, their interval resamples users, and the tests compare users' means.
    """
    from bbqrec_cli.evaluation.comparison import in_order_of
    from bbqrec_cli.evaluation.metrics import METRICS, bootstrap_interval, metric_names, per_user
    from bbqrec_cli.evaluation.significance import paired, paired_t_test, wilcoxon

    found, ranks = {}, in_order_of(metrics, other, other.ranks)
    for name in metric_names(sorted(set(metrics.recall) & set(other.recall)), METRICS):
        mine, theirs = (per_user(each, name).astype("float64") for each in (metrics.ranks, ranks))
        a, b = paired(metrics, mine, metrics, theirs)
        difference = mine - theirs
        found[name] = {
            "against": float(theirs.mean()), "difference": float(difference.mean()),
            "confidence": bootstrap_interval(difference, seed=seed, users=metrics.user_ids),
            "t_test": paired_t_test(a, b), "wilcoxon": wilcoxon(a, b),
        }  # fmt: skip
    return found
