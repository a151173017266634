"""tokenize: features and training sequences -> semantic IDs."""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bbqrec_cli.config import StageConfig, option, stored
from bbqrec_cli.device import PRECISIONS
from bbqrec_cli.errors import CollapseError
from bbqrec_cli.progress import SILENT, Progress

if TYPE_CHECKING:
    from bbqrec_cli.records import Features
    from bbqrec_cli.tokenizers.base import Tokenized

ON_COLLISION = ("nearest", "sinkhorn", "suffix", "share")


@dataclass(frozen=True, kw_only=True)
class TokenizeConfig(StageConfig):
    """Options of `bbqrec tokenize`; those of the method are in `options`."""

    features: Path = option(Path("features.h5"), "Features file.", positional=True)
    output: Path = option(Path("tokens.h5"), "Tokens file to write.", short="-o", stored=False)
    method: str = option("bbqrec", "Tokenizer: bbqrec, rqvae or published.")
    paper: bool = option(False, "The paper's exact setting where the defaults depart from it; other options win.")
    on_collision: str = option(
        "nearest",
        "Items with equal IDs move to free ones, one after the other (nearest) or all at once (sinkhorn), get one more "
        "level (suffix), or share.",
        choices=ON_COLLISION,
    )
    fail_on_collapse: bool = option(False, "Exit with an error when a codebook has collapsed.", stored=False)
    precision: str = option("auto", "auto, fp32 or bf16 autocast.", choices=PRECISIONS)
    resume: bool = option(False, "Go on from the last checkpoint.", stored=False)
    options: dict = option({})


@dataclass(frozen=True, kw_only=True)
class TokenizeResult:
    """What `bbqrec tokenize --json` prints, and the last epoch's figures."""

    output: Path
    method: str
    levels: int
    codebook_size: int
    signals: tuple[str, ...]
    items: int
    colliding_items: int
    epochs: int
    seconds: float
    figures: dict[str, float]

    def to_json(self) -> dict[str, Any]:
        """The keys that docs/scripting.md names."""
        return dataclasses.asdict(self) | {"output": str(self.output), "signals": list(self.signals)}


def run(config: TokenizeConfig, progress: Progress = SILENT) -> TokenizeResult:
    """Fit the tokenizer on the training part of the sequences and write the tokens file.

    Raises:
        UsageError, DataError, CollapseError, LackingError and the errors of reading and writing files.
    """
    from bbqrec_cli.device import resolve_device, resolve_precision, set_threads
    from bbqrec_cli.grouping import colliding
    from bbqrec_cli.hdf5 import check_output, read_features, sha256, write_tokens
    from bbqrec_cli.records import Tokens
    from bbqrec_cli.tokenizers.base import RunSettings, code_figures
    from bbqrec_cli.tokenizers.registry import build_tokenizer, tokenizer_config
    from bbqrec_cli.tokenizers.resolution import resolve

    method = tokenizer_config(config.method, config.options, paper=config.paper)
    parents = [config.features, *([Path(method.index)] if getattr(method, "index", "") else [])]
    check_output(config.output, force=config.force, inputs=parents)
    set_threads(config.threads)
    device = resolve_device(config.device)
    features, began = read_features(config.features), time.perf_counter()
    resolved = stored(config) | {"options": stored(method)}
    precision = resolve_precision(config.precision, device)
    run_of = {k: v for k, v in resolved.items() if k not in ("features", "on_collision")} | {"precision": precision}
    checkpoint = config.output.with_name(config.output.name + ".checkpoint")
    settings = RunSettings(
        seed=config.seed, device=device, precision=precision, progress=progress, checkpoint=checkpoint,
        resume=config.resume,
        identity={"config": run_of, "parents": {"the features file's sha256": sha256(config.features)}},
    )  # fmt: skip
    made = build_tokenizer(config.method, method).fit(tokenizer_input(features), settings)
    figures = code_figures(made.codes.codes, made.codes.modalities, made.present)
    check_collapse(made, figures, config, progress)
    # Over all sessions, where it was interrupted.
    seconds = sum(row["seconds"] for row in made.history) if made.history else time.perf_counter() - began
    codes = dataclasses.replace(resolve(made, config.on_collision), present=made.present)
    left = colliding(codes.codes)
    if left and config.on_collision != "share":
        progress.warn(f"{left:,} items still share an ID: --on-collision {config.on_collision} could not part them")
    resolved["colliding_items"] = {"before": figures["colliding_items"], "after": left}
    tokens = Tokens(catalogue=features.catalogue, codes=codes, history=made.history, encoder=made.encoder)
    write_tokens(config.output, tokens, config=resolved, parents=parents, force=config.force)
    checkpoint.unlink(missing_ok=True)
    return TokenizeResult(
        output=config.output, method=config.method, levels=codes.levels, codebook_size=codes.codebook_size,
        signals=codes.modalities, items=features.catalogue.items, colliding_items=left,
        epochs=len(made.history), seconds=seconds, figures=figures,
    )  # fmt: skip


def check_collapse(made: Tokenized, figures: dict[str, float], config: TokenizeConfig, progress: Progress) -> None:
    """Warn of codebooks that ended collapsed; an index that somebody else made is not judged.

    Raises:
        CollapseError: there are some, and --fail-on-collapse was given.
    """
    from bbqrec_cli.tokenizers.base import CURE, collapsed

    if not made.history:
        return
    codes = made.codes
    having = [len(codes.codes)] * len(codes.modalities) if made.present is None else made.present.sum(0).tolist()
    trouble = list(collapsed(figures, codes.codebook_size, dict(zip(codes.modalities, having, strict=True))).values())
    what = f"{len(trouble)} of {len(codes.modalities) * codes.levels} codebooks ended collapsed: {'; '.join(trouble)}"
    if trouble and config.fail_on_collapse:
        again = "--resume without --fail-on-collapse writes the file all the same"
        raise CollapseError(what, f"{CURE}; {again}")
    if trouble:
        progress.warn(f"{what}. Items are hard to tell apart by such codes. Try {CURE}.")


def tokenizer_input(features: Features) -> Any:
    """What the tokenizer may see: the features and the training part of the sequences; validation for the figures."""
    from bbqrec_cli.data.splits import leave_last_out
    from bbqrec_cli.tokenizers.base import TokenizerInput

    split = leave_last_out(features.catalogue.sequences)
    return TokenizerInput(
        item_ids=features.catalogue.item_ids, features=features.features, train=split.train, validation=split.validation
    )
