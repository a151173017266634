"""What BBQRec's two parts of a modality hold: python examples/alignment.py features.h5 page.md tokens.h5 other.h5 …

z goes into the codes and should be about behaviour; z̄ keeps the rest (paper, section 4.1.1). The page says what the
two share, by estimators that the tokenizer is not trained on, and whose nearest neighbours look like whose. Its two
plots are written beside it.
"""

from __future__ import annotations

import dataclasses
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bbqrec_cli.config import flag
from bbqrec_cli.data.splits import split_of
from bbqrec_cli.errors import BBQRecError, DataError
from bbqrec_cli.evaluation.alignment import (
    SharedInformation,
    co_interaction_share,
    nearest_items,
    neighbour_overlap,
    next_item_recall,
    shared_information,
)
from bbqrec_cli.hdf5 import describe, read_features, read_tokens
from bbqrec_cli.origin import commit
from bbqrec_cli.records import Features, Sequences
from bbqrec_cli.tokenizers.methods.bbqrec.restore import both_parts
from bbqrec_cli.tokenizers.registry import tokenizer_config

K = 10
SEED = 0


@dataclass(frozen=True, kw_only=True)
class Neighbourhood:
    """Shares of an item's K nearest: alike in content, taken by the same training users; the held-out next item."""

    content: float
    together: float
    next_item: float


@dataclass(frozen=True, kw_only=True)
class Study:
    """One modality of one tokens file."""

    name: str
    options: str
    modality: str
    estimate: float
    shared: SharedInformation
    near: dict[str, Neighbourhood]


def study(path: Path, features: Features) -> list[Study]:
    """Every modality of a tokens file.

    Raises:
        DataError: not BBQRec's, without z̄, or of another catalogue.
    """
    tokens = read_tokens(path)
    if tokens.catalogue.item_ids != features.catalogue.item_ids:
        raise DataError(f"{path}: its items are not those of the features file")
    if tokens.codes.method != "bbqrec" or tokens.encoder is None:
        raise DataError(f"{path}: no tokens file of --method bbqrec with its encoders")
    config = tokenizer_config("bbqrec", describe(path)["config"]["options"])
    found = []
    for modality, (z, specific) in both_parts(config, tokens.encoder, features.features).items():
        if specific is None:
            raise DataError(f"{path}: made with --no-mim, so there is no z̄")
        signal, width = tokens.codes.modalities.index(modality), config.dim
        here = features.features[modality].present
        vectors = tokens.codes.item_vectors[here]
        parts = {"x": features.features[modality].values[here], "z̄": specific, "z": z}
        parts |= {"q": vectors[:, signal * width : (signal + 1) * width], "v": vectors}
        last = tokens.history[-1]["information"] / len(tokens.encoder.inputs)
        near = neighbourhoods(parts, np.flatnonzero(here), features)
        found.append(
            Study(
                name=str(path.with_suffix("")), options=given(config), modality=modality, estimate=last,
                shared=shared_information(specific, z, seed=SEED), near=near,
            )
        )  # fmt: skip
    return found


def given(config: object) -> str:
    """The options that are not the defaults, as flags."""
    usual = tokenizer_config("bbqrec", {})
    values = {f.name: getattr(config, f.name) for f in dataclasses.fields(usual)}
    return ", ".join(f"`{flag(name)} {value}`" for name, value in values.items() if value != getattr(usual, name))


def neighbourhoods(parts: dict[str, np.ndarray], rows: np.ndarray, features: Features) -> dict[str, Neighbourhood]:
    """parts: name -> (n, p) of the items `rows` (n,); 'x' is the content that the others are compared with."""
    split = split_of(features.catalogue.sequences)
    items, found = features.catalogue.items, {}
    of = {name: nearest_items(values, K) for name, values in parts.items()}
    for name, near in of.items():
        every = np.full((items, K), -1)
        every[rows] = rows[near]
        found[name] = Neighbourhood(
            content=neighbour_overlap(near, of["x"]), together=co_interaction_share(near, only(split.train, rows)),
            next_item=next_item_recall(every, split.validation),
        )  # fmt: skip
    return found


def only(sequences: Sequences, rows: np.ndarray) -> Sequences:
    """The sequences of the items `rows`, numbered by their places in it."""
    place = {row: number for number, row in enumerate(rows.tolist())}
    return Sequences.from_lists([[place[item] for item in user.tolist() if item in place] for user in sequences])


def table(columns: list[str], rows: list[list[str]]) -> str:
    """Markdown."""
    lines = [columns, ["---"] + ["---:"] * (len(columns) - 1), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def page(studies: list[Study], command: str) -> str:
    """The Markdown page."""
    label = [f"{s.name}, {s.modality}" for s in studies]
    options = {s.name: s.options or "no options" for s in studies}
    information = [
        [
            name,
            f"{s.estimate:.3f}",
            f"{s.shared.information:.3f}",
            f"{s.shared.shuffled:.3f}",
            f"{s.shared.explained:.3f}",
        ]
        for name, s in zip(label, studies, strict=True)
    ]
    near = [
        [f"{name}: {part}", f"{n.content:.3f}", f"{n.together:.3f}", f"{n.next_item:.4f}"]
        for name, s in zip(label, studies, strict=True)
        for part, n in s.near.items()
    ]
    return f"""<!-- Generated by `{command}`. Do not edit: run it again. -->

# What z and z̄ hold

Generated by `{command}`, commit {commit() or "not known"}. The tokens files are of `bbqrec tokenize` with

{chr(10).join(f"- {name}: {flags}" for name, flags in options.items())}

## What they share

{table(["tokens file", "CLUB's own estimate", "lower bound", "pairs shuffled", "R² of z̄ from z"], information)}

CLUB's estimate (nats) is the one that the tokenizer pushes down, at its last epoch, the mean over modalities. The
lower bound (nats; Donsker–Varadhan, with a critic of its own) and R² (ridge regression) are fitted on 60% of the items
and measured on 20% that neither their fit nor its end has seen. Both parts are functions of one feature, so their true
mutual information has no upper limit; what is compared is how much of it a network and a line find.

![What z and z̄ share](alignment-information.svg)

## Whose neighbours

{table([f"the {K} nearest by", "nearest by content, too", "taken by the same user", "next item among them"], near)}

By cosine of x (the feature), z̄, z, q (the sum of z's codes) and v (the sums of all signals). Taken by the same user:
in the training part. Next item: the share of users whose validation item is among the {K} nearest of the item before.

![Whose neighbours](alignment-neighbours.svg)
"""


def plots(studies: list[Study], folder: Path) -> None:
    """The two SVGs."""
    import matplotlib

    matplotlib.use("agg")
    matplotlib.rcParams["svg.hashsalt"] = "bbqrec"
    import matplotlib.pyplot as plt

    names = [f"{s.name}, {s.modality}" for s in studies]
    figure, panels = plt.subplots(1, 3, figsize=(10, 0.9 + 0.4 * len(names)), sharey=True, layout="constrained")
    shown = {
        "CLUB's own estimate, nats": [s.estimate for s in studies],
        "lower bound, nats": [s.shared.information for s in studies],
        "R² of z̄ from z": [s.shared.explained for s in studies],
    }  # fmt: skip
    for panel, (title, values) in zip(panels, shown.items(), strict=True):
        panel.barh(names, values, color="#0b6e99", height=0.6)
        panel.set_title(title, fontsize=10)
    panels[0].invert_yaxis()
    save(figure, folder / "alignment-information.svg")
    figure, panels = plt.subplots(1, 3, figsize=(10, 1.2 + 0.5 * len(names)), sharey=True, layout="constrained")
    titles = {
        "content": "nearest by content, too",
        "together": "taken by the same user",
        "next_item": "next item among them",
    }
    for panel, (key, title) in zip(panels, titles.items(), strict=True):
        for number, part in enumerate(studies[0].near):
            places = np.arange(len(names)) + 0.16 * number - 0.32
            colour = ("#6b6b6b", "#c2571a", "#0b6e99", "#9fc3d3", "#3f7d3a")[number]
            panel.barh(places, [getattr(s.near[part], key) for s in studies], height=0.15, color=colour, label=part)
        panel.set_yticks(range(len(names)), names)
        panel.set_title(title, fontsize=10)
    panels[0].invert_yaxis()
    panels[-1].legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    save(figure, folder / "alignment-neighbours.svg")


def save(figure, path: Path) -> None:
    """Without a date, so that the same figures make the same file."""
    for panel in figure.axes:
        panel.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, metadata={"Date": None})


def main(arguments: list[str]) -> None:
    """Write the page and its plots."""
    if len(arguments) < 3:
        raise DataError("python examples/alignment.py features.h5 page.md tokens.h5 other.h5 …")
    features, target = read_features(Path(arguments[0])), Path(arguments[1])
    studies = [each for path in arguments[2:] for each in study(Path(path), features)]
    plots(studies, target.parent)
    target.write_text(page(studies, f"python examples/alignment.py {shlex.join(arguments)}"), encoding="utf-8")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except BBQRecError as error:
        sys.exit(f"error: {error.message}")
