"""The page's plots of trainings, epoch by epoch: of systems and of tokenizers."""

from __future__ import annotations

from bbqrec_cli.benchmark.curves import AllCurves, Points
from bbqrec_cli.benchmark.result import BenchmarkResult
from bbqrec_cli.pages.page import Section
from bbqrec_cli.pages.tables import make

MOST_PANELS = 24
"""Systems or tokenizers in a plot by epoch."""
FITS = {"loss": "training loss", "usage": "codes in use, mean", "colliding_items": "colliding items"}
"""What of the tokenizers' epochs is shown."""


def training_sections(result: BenchmarkResult, data: str) -> list[Section]:
    """What the trainings on a data set reported by epoch; none where they reported nothing."""
    from bbqrec_cli.benchmark.plots import epoch_panels

    on, each = (f", {data}" if data else ""), "A line per seed." if len(result.seeds) > 1 else ""
    validated = runs_of(result.curves, data, "ndcg@10")
    names = sorted(validated, key=lambda name: -max(value for points in validated[name] for _, value in points))
    chosen = set(names[:MOST_PANELS])
    left = f"The {MOST_PANELS} systems of the {len(names)} with the highest values." if len(names) > MOST_PANELS else ""
    made = []
    if validated:
        plot = epoch_panels(
            {name: lines for name, lines in validated.items() if name in chosen}, "validation NDCG@10",
            title=f"Validation by epoch{on}, plot", shared=True, zero=True, best=True,
        )  # fmt: skip
        best = "The epoch with the highest value (the point) is the one that is evaluated."
        caption = " ".join(filter(None, (each, best, left)))
        made.append(Section(table=make(f"Validation by epoch{on}", (), []), plot=plot, caption=caption))
    losses = {name: lines for name, lines in runs_of(result.curves, data, "loss").items()
              if not validated or name in chosen}  # fmt: skip
    if losses:
        plot = epoch_panels(losses, "training loss", title=f"Training loss by epoch{on}, plot")
        apart = "Each system has a loss of its own: compare epochs, not systems. Where a system trains in phases, each "
        caption = " ".join(filter(None, (each, f"{apart}phase has its own, too.")))
        made.append(Section(table=make(f"Training loss by epoch{on}", (), []), plot=plot, caption=caption))
    return made + fit_sections(result, data, on, each)


def fit_sections(result: BenchmarkResult, data: str, on: str, each: str) -> list[Section]:
    """The same of the tokenizers: loss, codes in use, items that share their ID."""
    from bbqrec_cli.benchmark.plots import epoch_panels

    plots = []
    for figure, what in FITS.items():
        runs = runs_of(result.fits, data, figure)
        shown = dict(list(runs.items())[:MOST_PANELS])
        if shown:
            plots.append(epoch_panels(shown, what, title=f"Tokenizers by epoch{on}, {what}", zero=figure != "loss"))
    if not plots:
        return []
    left = f"The first {MOST_PANELS} tokenizers." if len(runs_of(result.fits, data, "loss")) > MOST_PANELS else ""
    counted = (
        "Codes and collisions are counted from the first epoch that quantises, where the loss may rise; collisions "
    )
    caption = " ".join(filter(None, (each, f"{counted}before anything is done about them.", left)))
    return [Section(table=make(f"Tokenizers by epoch{on}", (), []), plot="".join(plots), caption=caption)]


def runs_of(every: AllCurves, data: str, figure: str) -> dict[str, list[Points]]:
    """Name -> a figure's points, one a seed, of what reports it on a data set."""
    found: dict[str, list[Points]] = {}
    for (name, of, _), curves in every.items():
        if of == data and figure in curves:
            found.setdefault(name, []).append(curves[figure])
    return found
