"""Whether what is said to be best is best here, in words made from the numbers."""

from __future__ import annotations

from dataclasses import dataclass

from bbqrec_cli.benchmark.layouts import COLUMNS, Layout
from bbqrec_cli.benchmark.result import BenchmarkResult, Score, Systems
from bbqrec_cli.benchmark.scores import mean_sd, metric_name, p_text
from bbqrec_cli.pages.tables import Table, counted, make


@dataclass(frozen=True)
class Claim:
    """A claim of a table on a data set. holds: None where it can not be said; said: the finding in a sentence;
    significant: whether the difference is."""

    table: str
    best: str
    holds: bool | None
    said: str
    significant: bool = False

    @property
    def word(self) -> str:
        """The finding in a word or two."""
        if self.holds is None:
            return "not known"
        return ("holds" if self.holds else "does not hold") + ("" if self.significant else ", not significantly")


def claims(result: BenchmarkResult) -> list[Claim]:
    """Of every table with a claim and a metric, on each of its data sets, by its last metric."""
    return [
        judged(layout, systems, data)
        for layout, systems in result.layouts
        if layout.claim and metrics_of(layout)
        for data in layout.data
    ]


def metrics_of(layout: Layout) -> list[str]:
    """The columns that are metrics."""
    return [column for column in layout.columns if column not in COLUMNS]


def judged(layout: Layout, systems: Systems, data: str) -> Claim:
    """Whether the claimed row has the highest last metric on a data set."""
    metric, label_of = metrics_of(layout)[-1], {name: label for label, name in layout.rows}
    title = layout.title + (f", {data}" if len(layout.data) > 1 else "")
    best = f"{layout.head} {layout.claim}" if layout.sweep else layout.claim
    scores = {name: systems[data][name][metric] for name in label_of if name in systems[data]}
    claimed = next(name for name, label in label_of.items() if label == layout.claim)
    if claimed not in scores or not scores[claimed].against:
        return Claim(title, best, None, "It was not run beside another one.")
    own, what = scores[claimed], metric_name(metric)
    ahead = [name for name, score in scores.items() if score.mean > own.mean]
    rival, next_best = label_of[own.against], mean_sd(scores[own.against])
    if not ahead and scores[own.against].mean == own.mean:
        return Claim(title, best, None, f"{layout.claim} and {rival} have the same {what}, {mean_sd(own)}.")
    if not ahead:
        said = f"{layout.claim} has the highest {what}, {mean_sd(own)}, {sure(own)} ahead of {rival}"
        return Claim(title, best, True, f"{said}, {next_best}.", own.clear)
    said = f"{rival} has a higher {what} than {layout.claim}, {next_best} to {mean_sd(own)}, {sure(own)}"
    said += f"; {len(ahead)} of {len(scores) - 1} others are ahead of it" if len(ahead) > 1 else ""
    return Claim(title, best, False, f"{said}.", own.clear)


def sure(score: Score) -> str:
    """Whether the difference to the best other one is significant."""
    if score.holm_t is None:
        return "untested"
    return f"{'' if score.clear else 'not '}significantly (corrected p {p_text(score.holm_t)})"


def claims_table(result: BenchmarkResult) -> Table:
    """A row for each claim."""
    rows = [(each.table, each.best, each.word, each.said) for each in claims(result)]
    note = "Whether what a table's `claim` says to be the best is the best here, by the table's last metric."
    return make("Claims", ("table", "said to be best", "here", "numbers"), rows, left=4, note=note)


def summed_up(result: BenchmarkResult) -> str:
    """How many claims hold, and the first that does not, in words; '' without any."""
    known = [each for each in claims(result) if each.holds is not None]
    wrong = [each for each in known if not each.holds]
    if not known:
        return ""
    if not wrong:
        return f"All that is claimed to be best is best here, too ({counted(len(known), 'claim')})."
    do = "does" if len(wrong) == 1 else "do"
    return f"{len(wrong)} of {counted(len(known), 'claim')} {do} not hold here: {wrong[0].table}: {wrong[0].said}"
