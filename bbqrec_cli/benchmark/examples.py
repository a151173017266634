"""What two systems recommend to the same users, with titles and pictures. U evaluated users, B of them shown."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from bbqrec_cli.benchmark.findings import Example, Shelf, SideBySide
from bbqrec_cli.benchmark.graph import Cell, Step
from bbqrec_cli.benchmark.layouts import UNSEEN
from bbqrec_cli.benchmark.results import Loaded, damage, per_user
from bbqrec_cli.benchmark.slicing import catalogue_of, sources_of, targets_of
from bbqrec_cli.benchmark.suite import Suite
from bbqrec_cli.data.splits import PAD, HeldOut, held_out
from bbqrec_cli.errors import BBQRecError, UsageError
from bbqrec_cli.hdf5 import open_file, read_dataset
from bbqrec_cli.records import LAST

if TYPE_CHECKING:
    from bbqrec_cli.serving.session import Session
    from bbqrec_cli.stages.evaluate import EvaluateConfig

OURS = "bbqrec"
"""The model that is shown beside the best one of others."""
USERS, ITEMS, HISTORY, SIDE = 3, 5, 4, 64
"""Users for whom each of the two is better; items of each list; last items of a history; pixels of a picture."""


def side_by_side(suite: Suite, cells: Sequence[Cell], loaded: Loaded) -> list[SideBySide]:
    """Of every data set with a BBQRec and another system: BBQRec beside the best other one, by the last metric, for the
    users for whom they differ most. The first seed that both have."""
    metric = [name for name in suite.metrics if not name.endswith(UNSEEN)][-1]
    found = []
    for data, systems in loaded.items():
        of = {(cell.system, cell.seed): cell for cell in cells if cell.data == data and cell.system in systems}
        models = {each.name: each.config.model for each in suite.systems}
        mean = {name: float(np.mean([per_user(each, metric).mean() for each in seeds.values()]))
                for name, seeds in systems.items()}  # fmt: skip
        ours = ours_of(suite, mean)
        best = max((name for name in systems if models[name] != OURS), key=mean.__getitem__, default=None)
        if ours is None or best is None:
            continue
        seed = min(systems[ours].keys() & systems[best].keys(), default=None)
        if seed is None:
            continue
        pair = {name: of[name, seed] for name in (ours, best)}
        gone = [
            name for name, cell in pair.items() if not all(there(each.step("train")) for each in (cell, *cell.unite))
        ]
        if gone:
            why = f"The model files of {' and '.join(gone)} are not in the work folder."
            found.append(SideBySide(data, (ours, best), seed, (), why))
            continue
        values = {name: per_user(systems[name][seed], metric) for name in (ours, best)}
        first = systems[ours][seed][0]
        targets = targets_of(list(pair.values()), suite.split, first)
        if targets is None or first.user_ids != systems[best][seed][0].user_ids:
            continue
        order = np.argsort(values[best] - values[ours], kind="stable")
        ahead = [user for user in order[:USERS] if values[ours][user] > values[best][user]]
        behind = [user for user in order[::-1][:USERS] if values[ours][user] < values[best][user]]
        chosen = np.array([*ahead, *behind], dtype=np.int64)
        if not len(chosen):
            continue
        try:
            made = examples(pair, chosen, targets, first.user_ids)
        except BBQRecError as error:
            found.append(SideBySide(data, (ours, best), seed, (), error.message))
        else:
            found.append(SideBySide(data, (ours, best), seed, made))
    return found


def ours_of(suite: Suite, mean: Mapping[str, float]) -> str | None:
    """Of the systems with a mean metric the best BBQRec on IDs of its own tokenizer, else on any; None without one."""
    models = {each.name: each for each in suite.systems if each.name in mean and each.config.model == OURS}
    whole = [name for name, each in models.items()
             if each.tokenizer and suite.tokenizers[each.tokenizer].config.method == OURS]  # fmt: skip
    return max(whole or models, key=mean.__getitem__, default=None)


def there(step: Step | None) -> bool:
    """Whether its output can be read."""
    return step is not None and step.output.exists() and not damage(step.output)


def examples(
    pair: Mapping[str, Cell], chosen: np.ndarray, targets: np.ndarray, user_ids: Sequence[str]
) -> list[Example]:
    """Of the users `chosen` (B,), places among the evaluated ones. targets (U,)."""
    from bbqrec_cli.device import resolve_device
    from bbqrec_cli.serving.session import Session

    cells = list(pair.values())
    catalogue, pictures = catalogue_of(cells), pictures_of(cells)
    assert catalogue is not None  # the targets are of it
    if catalogue.splitting != LAST:
        raise UsageError(f"the split is {catalogue.splitting}; examples are shown of the last items alone")
    back = {"test": 1, "validation": 2}[cells[0].evaluations[0].config.split]
    rows = catalogue.user_ids.rows([user_ids[user] for user in chosen])
    asked = np.zeros(len(catalogue.sequences.items), dtype=bool)
    asked[catalogue.sequences.indptr[rows + 1] - back] = True
    shown: dict[str, list[list[int]]] = {}
    for name, cell in pair.items():
        train, evaluate = cell.step("train"), cell.evaluations[0].config
        assert train is not None
        session = Session.open(train.output, None, resolve_device(evaluate.device), evaluate.unite)
        held = held_out(catalogue.sequences, asked, history=session.model.history)
        shown[name] = recommended(session, held, np.searchsorted(held.users, rows), evaluate)

    def shelf(items: Sequence[int], target: int = -1) -> Shelf:
        titles = [catalogue.titles[item] or catalogue.item_ids[item] for item in items]
        hit = list(items).index(target) if target in items else -1
        return Shelf([short(each) for each in titles], [thumbnail(pictures, item) for item in items], hit)

    made = []
    for place, user in enumerate(chosen):
        target = int(targets[user])
        lists = {name: shelf(of[place], target) for name, of in shown.items()}
        history = catalogue.sequences[rows[place]][:-back][-HISTORY:].tolist()
        made.append(Example(user_ids[user], shelf(history), shelf([target]), lists))
    return made


def recommended(session: Session, held: HeldOut, places: np.ndarray, evaluate: EvaluateConfig) -> list[list[int]]:
    """The first ITEMS rows of items for each of the `places` (B,) under the protocol of the evaluation: of the seen
    items that it leaves out, the target is none, unlike in `Session.answer`, which knows of no target."""
    import torch

    from bbqrec_cli.data.batches import Batch
    from bbqrec_cli.models.base import Wanted

    exclude = torch.from_numpy(held.seen(places)).to(session.device) if evaluate.exclude_seen else None
    items = torch.from_numpy(held.read(places))
    batch = Batch(items, torch.full_like(items, PAD)).to(session.device)
    # As many as the evaluation ranked, since a beam of fewer may find others.
    best, _ = session.model.recommend(batch, Wanted(k=max(ITEMS, *evaluate.k), beam=evaluate.beam, exclude=exclude))
    return [[row for row in rows if row != PAD][:ITEMS] for rows in best.tolist()]


def short(title: str, most: int = 60) -> str:
    """A title on a line, cut."""
    title = " ".join(title.split())
    return title if len(title) <= most else f"{title[: most - 1].rstrip()}…"


def pictures_of(cells: Sequence[Cell]) -> Sequence[bytes]:
    """The pictures of all items, () where no dataset file is there."""
    for path in sources_of(cells):
        if path.exists() and not damage(path):
            with open_file(path) as file:
                kind = file.kind
            if kind == "dataset":
                return read_dataset(path).images
    return ()


def thumbnail(pictures: Sequence[bytes], item: int) -> str:
    """A small JPEG as a data URI, '' where the item has no picture that can be read."""
    from PIL import Image

    if not len(pictures) or not pictures[item]:
        return ""
    try:
        with Image.open(io.BytesIO(pictures[item])) as image:
            small, stream = image.convert("RGB"), io.BytesIO()
    except (OSError, ValueError, Image.DecompressionBombError):
        return ""
    small.thumbnail((SIDE, SIDE))
    small.save(stream, "JPEG", quality=70)
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode()
