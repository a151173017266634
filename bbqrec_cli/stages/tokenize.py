"""tokenize: features and training sequences -> semantic IDs."""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bbqrec_cli.config import StageConfig, flag, option, stored
from bbqrec_cli.device import PRECISIONS
from bbqrec_cli.errors import CollapseError, DataError, UsageError
from bbqrec_cli.progress import SILENT, Progress
from bbqrec_cli.tokenizers.registry import TOKENIZERS

if TYPE_CHECKING:
    import torch

    from bbqrec_cli.records import Catalogue, Tokens
    from bbqrec_cli.tokenizers.base import Tokenized, TokenizerInput

LATER = ("features", "on_collision", "append", "id_signal", "neighbours")
"""Options that say nothing of how a tokenizer is fitted."""
ON_COLLISION = ("nearest", "sinkhorn", "suffix", "share")


@dataclass(frozen=True, kw_only=True)
class TokenizeConfig(StageConfig):
    """Options of `bbqrec tokenize`; those of the method are in `options`."""

    features: Path = option(Path("features.h5"), "Features file.", positional=True)
    output: Path | None = option(
        None, "Tokens file to write. [default: tokens.h5; with --append grown.h5]", short="-o", stored=False
    )
    append: Path | None = option(
        None, "Tokens file that stays as it is, to the last code; only items that it lacks get codes, by its tokenizer."
    )
    id_signal: str = option(
        "neighbours",
        "ID signal of items that nobody took, new ones too: the mean of similar taken items (neighbours), or absent.",
        choices=("neighbours", "absent"),
    )
    neighbours: int = option(50, "Taken items of that mean.", minimum=1)
    method: str = option("bbqrec", f"Tokenizer: {', '.join(TOKENIZERS)}.")
    fit_items: int = option(
        0,
        "Items that the tokenizer is fitted on, drawn from those with content; then all get codes, in blocks, so that "
        "memory holds the features of so many only. 0: all.",
        minimum=0,
    )
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

    @property
    def target(self) -> Path:
        """The output, given or not."""
        return self.output or Path("grown.h5" if self.append else "tokens.h5")

    @property
    def lenders(self) -> int:
        """Of how many taken items the ID signal of another one is the mean; 0: it is absent."""
        return self.neighbours if self.id_signal == "neighbours" else 0


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
    new_items: int = 0

    def to_json(self) -> dict[str, Any]:
        """The keys that docs/scripting.md names."""
        return dataclasses.asdict(self) | {"output": str(self.output), "signals": list(self.signals)}


def run(config: TokenizeConfig, progress: Progress = SILENT) -> TokenizeResult:
    """Fit the tokenizer on the training part of the sequences and write the tokens file; with `append`, see `grow`.

    Raises:
        UsageError, DataError, CollapseError, LackingError and the errors of reading and writing files.
    """
    import numpy as np

    from bbqrec_cli.device import resolve_device, resolve_precision, set_threads
    from bbqrec_cli.grouping import colliding
    from bbqrec_cli.hdf5 import check_output, write_tokens
    from bbqrec_cli.records import Tokens
    from bbqrec_cli.tokenizers.base import RunSettings, code_figures
    from bbqrec_cli.tokenizers.growth import with_ids_of_untaken
    from bbqrec_cli.tokenizers.registry import build_tokenizer, input_files, tokenizer_config
    from bbqrec_cli.tokenizers.resolution import resolve

    if config.append is not None:
        return grow(config, config.append, progress)
    method = tokenizer_config(config.method, config.options, paper=config.paper)
    named = input_files(method)
    parents = [config.features, *(path for _, path in named)]
    check_output(config.target, force=config.force, inputs=parents)
    set_threads(config.threads)
    device, tokenizer = resolve_device(config.device), build_tokenizer(config.method, method)
    catalogue, inputs = tokenizer_input(config, tokenizer)
    began = time.perf_counter()
    resolved = stored(config) | {"options": stored(method)}
    precision = resolve_precision(config.precision, device)
    checkpoint = config.target.with_name(config.target.name + ".checkpoint")
    settings = RunSettings(
        seed=config.seed, device=device, precision=precision, progress=progress, checkpoint=checkpoint,
        resume=config.resume, identity=identity(config, resolved | {"precision": precision}, named),
    )  # fmt: skip
    made = tokenizer.fit(inputs, settings)
    made = with_ids_of_untaken(made, np.unique(inputs.train.items), neighbours=config.lenders, device=device)
    # Over all sessions, where it was interrupted.
    seconds = sum(row["seconds"] for row in made.history) if made.history else time.perf_counter() - began
    if inputs.sample is not None:
        began = time.perf_counter()
        made = encode_all(made, tokenizer, config, catalogue.items, device, progress)
        seconds += time.perf_counter() - began
    figures = code_figures(made.codes.codes, made.codes.modalities, made.present)
    check_collapse(made, figures, config, progress)
    codes = dataclasses.replace(resolve(made, config.on_collision), present=made.present)
    left = colliding(codes.codes)
    say_what_is_left(left, config, progress)
    resolved["colliding_items"] = {"before": figures["colliding_items"], "after": left}
    tokens = Tokens(catalogue=catalogue, codes=codes, history=made.history, encoder=made.encoder)
    write_tokens(config.target, tokens, config=resolved, parents=parents, force=config.force)
    checkpoint.unlink(missing_ok=True)
    return TokenizeResult(
        output=config.target, method=config.method, levels=codes.levels, codebook_size=codes.codebook_size,
        signals=codes.modalities, items=catalogue.items, colliding_items=left,
        epochs=len(made.history), seconds=seconds, figures=figures,
    )  # fmt: skip


def identity(config: TokenizeConfig, resolved: dict[str, Any], named: list[tuple[str, Path]]) -> dict[str, Any]:
    """What a resumed run must agree on: of input files what is in them, not where they lie.

    named: (option, file) of those that the method's options name.
    """
    from bbqrec_cli.hdf5 import sha256

    run_of = {key: value for key, value in resolved.items() if key not in LATER}
    run_of["options"] = {key: value for key, value in run_of["options"].items() if key not in dict(named)}
    parents = {"the features file's sha256": sha256(config.features)}
    parents |= {f"the sha256 of {flag(name)} ({number})": sha256(path) for number, (name, path) in enumerate(named, 1)}
    return {"config": run_of, "parents": parents}


def say_what_is_left(left: int, config: TokenizeConfig, progress: Progress) -> None:
    """A warning where a policy that parts items did not part all. left: items that share an ID."""
    if left and config.on_collision != "share":
        progress.warn(f"{left:,} items still share an ID: --on-collision {config.on_collision} could not part them")


def grow(config: TokenizeConfig, path: Path, progress: Progress = SILENT) -> TokenizeResult:
    """Give the items of the features file that the tokens file `path` lacks codes, by the tokenizer that made it.

    Raises:
        UsageError, DataError, LackingError and the errors of reading and writing files.
    """
    from bbqrec_cli.data.growth import grown, new_rows
    from bbqrec_cli.device import resolve_device, set_threads
    from bbqrec_cli.grouping import colliding
    from bbqrec_cli.hdf5 import check_output, describe, open_file, read_catalogue, read_tokens, write_tokens
    from bbqrec_cli.records import Tokens
    from bbqrec_cli.tokenizers.base import code_figures
    from bbqrec_cli.tokenizers.blocks import encode_blocks, feature_blocks
    from bbqrec_cli.tokenizers.growth import check_inputs, encode_new
    from bbqrec_cli.tokenizers.resolution import MOVING, resolve

    began = time.perf_counter()
    check_output(config.target, force=config.force, inputs=[config.features, path])
    set_threads(config.threads)
    device, old, about = resolve_device(config.device), read_tokens(path), describe(path)["config"]
    tokenizer = restorable(config, path, old, about)
    with open_file(config.features, "features"):
        new = read_catalogue(config.features)
    assert old.encoder is not None  # `restorable` saw to it
    check_inputs(config.features, old.encoder, path)
    rows = new_rows(old.catalogue, new)
    if not len(rows):
        raise DataError(f"{config.features}: {path} has all of its {new.items:,} items: nothing to append")
    # Before there are codes: it takes memory of its own.
    catalogue = grown(old.catalogue, new)
    encode = encode_new(
        tokenizer.restore(old.codes, old.encoder, device), old, neighbours=config.lenders, device=device
    )
    made = encode_blocks(
        old.codes, encode, feature_blocks(config.features, tuple(old.encoder.inputs), rows),
        keep=old.catalogue.items, items=catalogue.items,
        latents=config.on_collision in MOVING, progress=progress,
    )  # fmt: skip
    figures = code_figures(made.codes.codes, made.codes.modalities, made.present)
    codes = resolve(made, config.on_collision, frozen=old.catalogue.items)
    left = colliding(codes.codes)
    say_what_is_left(left, config, progress)
    tokens = Tokens(catalogue=catalogue, codes=codes, history=old.history, encoder=old.encoder)
    resolved = stored(config) | {"method": about["method"], "options": about["options"], "new_items": len(rows)}
    resolved["colliding_items"] = {"before": figures["colliding_items"], "after": left}
    write_tokens(config.target, tokens, config=resolved, parents=[path, config.features], force=config.force)
    return TokenizeResult(
        output=config.target, method=codes.method, levels=codes.levels, codebook_size=codes.codebook_size,
        signals=codes.modalities, items=catalogue.items, colliding_items=left, epochs=0,
        seconds=time.perf_counter() - began, figures=figures, new_items=len(rows),
    )  # fmt: skip


def restorable(config: TokenizeConfig, path: Path, old: Tokens, about: dict[str, Any]) -> Any:
    """The tokenizer that made a tokens file.

    Raises:
        UsageError: options that only a tokenizer which is fitted heeds.
        DataError: its codes do not come of features, or the file does not hold what they came of.
    """
    from bbqrec_cli.tokenizers.base import Encoding
    from bbqrec_cli.tokenizers.registry import build_tokenizer, tokenizer_config

    given = (
        [flag(name) for name in config.options] + ["--paper"] * config.paper + ["--fit-items"] * bool(config.fit_items)
    )
    if given or config.method not in (TokenizeConfig.method, old.codes.method):
        raise UsageError(
            f"--append keeps the tokenizer of {path} ({old.codes.method}): {[*given, '--method'][0]} has no say",
            "leave it out, or tokenize anew without --append",
        )
    tokenizer: Any = None
    if "options" in about:
        tokenizer = build_tokenizer(about["method"], tokenizer_config(about["method"], about["options"]))
    if not isinstance(tokenizer, Encoding):
        raise DataError(
            f"{path}: its IDs are of the method {old.codes.method}, which has nothing that gives a new item an ID",
            "tokenize anew with all items, or by a method that reads features, such as bbqrec or rqvae",
        )
    if old.encoder is None:
        raise DataError(
            f"{path}: was made before tokens files kept what new items get their codes by",
            "run `bbqrec tokenize` again; every item gets new codes by that",
        )
    return tokenizer


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


def tokenizer_input(config: TokenizeConfig, tokenizer: Any) -> tuple[Catalogue, TokenizerInput]:
    """The catalogue, and what the tokenizer may see of it: the features, of all items or of a sample, and the training
    part of the sequences; validation for the figures."""
    from bbqrec_cli.data.splits import leave_last_out
    from bbqrec_cli.hdf5 import read_catalogue, read_features, read_present
    from bbqrec_cli.tokenizers.base import TokenizerInput
    from bbqrec_cli.tokenizers.blocks import draw_sample, read_sample

    sample = None
    if config.fit_items:
        present = read_present(config.features)
        sample = draw_sample(tokenizer, config.method, present, config.fit_items, seed=config.seed)
    if sample is None:
        whole = read_features(config.features)
        catalogue, features = whole.catalogue, whole.features
    else:
        catalogue = read_catalogue(config.features)
        features = read_sample(config.features, tuple(present), sample, catalogue.items)
    split = leave_last_out(catalogue.sequences)
    return catalogue, TokenizerInput(
        item_ids=catalogue.item_ids, features=features, train=split.train, validation=split.validation, sample=sample
    )


def encode_all(
    made: Tokenized, tokenizer: Any, config: TokenizeConfig, items: int, device: torch.device, progress: Progress
) -> Tokenized:
    """Codes of all items of the features file from a tokenizer that was fitted on a sample of them."""
    import numpy as np

    from bbqrec_cli.tokenizers.blocks import encode_blocks, feature_blocks
    from bbqrec_cli.tokenizers.resolution import MOVING

    assert made.encoder is not None  # `draw_sample` saw to it
    encode = tokenizer.restore(made.codes, made.encoder, device)
    blocks = feature_blocks(config.features, tuple(made.encoder.inputs), np.arange(items))
    latents = config.on_collision in MOVING
    every = encode_blocks(made.codes, encode, blocks, keep=0, items=items, latents=latents, progress=progress)
    return dataclasses.replace(every, history=made.history, encoder=made.encoder)
