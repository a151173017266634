"""tokenize: features and training sequences -> semantic IDs."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from bbqrec_cli.config import agreed, check_files, input_files, option, stored
from bbqrec_cli.device import PRECISIONS
from bbqrec_cli.errors import BBQRecError, DataError, LackingError, out_of_memory
from bbqrec_cli.outputs import one_at_a_time
from bbqrec_cli.progress import SILENT, Progress
from bbqrec_cli.registry import Registry
from bbqrec_cli.tokenizers.assignment.config import AssignmentConfig, AssignmentResult
from bbqrec_cli.tokenizers.registry import TOKENIZERS, tokenizer_config

if TYPE_CHECKING:
    import numpy as np

    from bbqrec_cli.records import Catalogue, Feature
    from bbqrec_cli.tokenizers.base import TokenizerInput


@dataclass(frozen=True, kw_only=True)
class TokenizeConfig(AssignmentConfig):
    """Options of `bbqrec tokenize`; those of the method are in `options`."""

    registry: ClassVar[Registry] = TOKENIZERS
    choice: ClassVar[str] = "method"

    output: Path = option(
        Path("tokens.h5"), "Tokens file to write; with --append it is grown.h5 by default.", role="output", short="-o",
        complete=".h5",
    )  # fmt: skip
    method: str = option("bbqrec", "Tokenizer.", complete="tokenizers")
    recipe: str = option(
        "", "Named settings of method and options, or the path of a .toml file with such; other options override them.",
        complete="recipes",
    )  # fmt: skip
    fit_items: int = option(
        0,
        "Items to fit the tokenizer on, drawn from those with content; all items are then encoded in blocks, so that "
        "memory holds the features of this many only. 0: all.",
        minimum=0,
    )
    fail_on_collapse: bool = option(False, "Exit with an error when a codebook has collapsed.", role="runtime")
    precision: str = option("auto", "auto, fp32 or bf16 autocast.", choices=PRECISIONS)
    resume: bool = option(
        False, "Continue from the last checkpoint. One that is there is never lost without --force.", role="runtime"
    )
    options: dict = option({})


@one_at_a_time
def run(config: TokenizeConfig, progress: Progress = SILENT) -> AssignmentResult:
    """Fit the tokenizer on the training part of the sequences and write the tokens file.

    Raises:
        UsageError, DataError, CollapseError, LackingError and the errors of reading and writing files.
    """

    from bbqrec_cli.hdf5 import check_there, describe_parent, write_tokens
    from bbqrec_cli.origin import plugin_of, ran_on
    from bbqrec_cli.outputs import check_checkpoint, check_output, checkpoint_of
    from bbqrec_cli.records import Tokens
    from bbqrec_cli.tokenizers.assignment.blocks import encode_catalogue
    from bbqrec_cli.tokenizers.assignment.collisions import MOVING_POLICIES, resolve_collisions, warn_of_shared
    from bbqrec_cli.tokenizers.assignment.new_items import warm_items, with_id_signals_of_cold_items
    from bbqrec_cli.tokenizers.base import check_codes, check_collapse, figures_of_codebooks
    from bbqrec_cli.tokenizers.registry import build_tokenizer
    from bbqrec_cli.training.checkpoint import saved_seconds
    from bbqrec_cli.training.distributed import start_process
    from bbqrec_cli.training.trainer import RunSettings, identity, precision_of_run

    began = time.perf_counter()
    method = tokenizer_config(config.method, config.options)
    check_files(method)
    for line in method.without_effect(config.options):
        progress.log(line)
    named = input_files(config, method)
    parents = [path for _, path in named]
    check_there(config.features, "features")
    check_checkpoint(config.output, force=config.force, resume=config.resume)
    check_output(config.output, force=config.force, inputs=parents)
    read = [(name, describe_parent(path)) for name, path in named]  # as they are before the long run
    method = with_fitting_dim(with_fitting_size(method, config.features, progress), config.features, progress)
    world, device = start_process(config.device, config.threads)
    tokenizer = build_tokenizer(config.method, method)
    with advice_on_memory(config, tokenizer):
        catalogue, inputs = tokenizer_input(config, tokenizer)
    checkpoint = checkpoint_of(config.output)
    continued = checkpoint if config.resume else None
    precision = precision_of_run(config.precision, device, continued=continued, world=world)
    resolved = stored(config) | {"precision": precision, "options": stored(method)}
    resolved |= TOKENIZERS.recorded(config.method)
    of_run = agreed(config) | {"precision": precision, "options": agreed(method)}
    settings = RunSettings(
        seed=config.seed, device=device, precision=precision, progress=progress, checkpoint=checkpoint,
        resume=config.resume, identity=identity(of_run, read), world=world,
    )  # fmt: skip
    before = saved_seconds(checkpoint) if config.resume else 0.0
    with advice_on_memory(config, tokenizer):
        made = tokenizer.fit(inputs, settings)
    warm = warm_items(inputs.train)
    made = with_id_signals_of_cold_items(made, warm, neighbours=config.id_neighbours, device=device)
    if inputs.sample is not None:
        if describe_parent(config.features) != dict(read)["features"]:
            what = f"{config.features}: has changed since the codebooks were learnt on a sample of it"
            raise DataError(what, "put it back and give --resume, or start anew with --force")
        encode = tokenizer.restore(made.codes, made.encoder, device)
        latents = config.on_collision in MOVING_POLICIES
        made = encode_catalogue(
            made, encode, config.features, catalogue.items, latents=latents, progress=progress
        )  # fmt: skip
    check_codes(made.codes, catalogue.items)
    quantised = figures_of_codebooks(made.codes)
    check_collapse(made, quantised, fail=config.fail_on_collapse, progress=progress)
    codes = resolve_collisions(made, config.on_collision)
    left = warn_of_shared(codes, config.on_collision, progress)
    resolved["colliding_items"] = {"before": quantised["colliding_items"], "after": left}
    tokens = Tokens(catalogue=catalogue, codes=codes, history=made.history, encoder=made.encoder)
    if world.writes:
        write_tokens(
            config.output, tokens, config=resolved, parents=[each for _, each in read], force=config.force,
            origin=ran_on(device, config.threads, precision) | plugin_of(type(method)),
        )  # fmt: skip
    world.barrier()
    if world.writes and made.history:  # else nothing was trained, and the checkpoint is another run's
        checkpoint.unlink(missing_ok=True)
    seconds = time.perf_counter() - began + (before if made.history else 0.0)
    return AssignmentResult(
        output=config.output, method=config.method, levels=codes.levels, codebook_size=codes.level_sizes[0],
        signals=codes.modalities, items=catalogue.items, colliding_items=left,
        epochs=len(made.history), seconds=seconds,
        figures=figures_of_codebooks(codes) | {"colliding_items": quantised["colliding_items"]},
    )  # fmt: skip


def with_fitting_size(method: Any, features: Path, progress: Progress) -> Any:
    """The method's configuration with the number of codes that fits the file's items, where none is given; a warning
    where more are given than there are items."""
    from bbqrec_cli.hdf5 import open_file
    from bbqrec_cli.tokenizers.options._codebooks import fitting_size

    with open_file(features, "features", "dataset", "tokens", "model") as file:
        items = file.length("items/id")
    size, fitting = getattr(method, "codebook_size", None), fitting_size(items)
    if size == 0:
        progress.log(f"{fitting} codes per codebook, to fit {items:,} items (--codebook-size)")
        return dataclasses.replace(method, codebook_size=fitting)
    if size is not None and size > max(items, fitting) and items:
        progress.warn(
            f"--codebook-size {size} for {items:,} items: each can have a code of its own, which says nothing of what "
            f"items have in common; --codebook-size {fitting} fits"
        )
    return method


def with_fitting_dim(method: Any, features: Path, progress: Progress) -> Any:
    """The method's configuration with the features' width for --dim, where they are narrower than its default.

    Raises: as `content_names`.
    """
    from bbqrec_cli.hdf5 import open_file, read_present
    from bbqrec_cli.tokenizers.content import content_names
    from bbqrec_cli.tokenizers.options._codebooks import KMeansConfig

    if not isinstance(method, KMeansConfig) or method.dim != type(method).dim:
        return method
    names = content_names(method, read_present(features))
    with open_file(features, "features") as file:
        tree = file.tree()
    width = sum(tree[f"features/{name}/values"]["shape"][1] for name in names)
    if width >= method.dim:
        return method
    progress.log(f"codes have the features' {width} columns, fewer than {method.dim} (--dim)")
    return dataclasses.replace(method, dim=width)


@contextmanager
def advice_on_memory(config: TokenizeConfig, tokenizer: Any) -> Iterator[None]:
    """Raises: LackingError: out of memory, where a smaller sample (--fit-items) helps; other errors pass."""
    try:
        yield
    except Exception as error:
        what = out_of_memory(error)
        if not what or not samples(config, tokenizer):
            raise
        items = max(1, config.fit_items // 2) if config.fit_items else 50_000
        hint = f"--fit-items {items} learns codebooks on as many items, and gives all of them codes; or --device cpu"
        raise LackingError(what, hint) from error


def samples(config: TokenizeConfig, tokenizer: Any) -> bool:
    """Whether the tokenizer, with its options, can be fitted on a sample of the items."""
    from bbqrec_cli.hdf5 import read_present
    from bbqrec_cli.tokenizers.base import SampleTokenizer

    if not isinstance(tokenizer, SampleTokenizer):
        return False
    try:
        tokenizer.reads(read_present(config.features))
    except BBQRecError:
        return False
    return True


def tokenizer_input(config: TokenizeConfig, tokenizer: Any) -> tuple[Catalogue, TokenizerInput]:
    """The catalogue, and what the tokenizer may see of it: the features of all items or of a sample, the training part
    of the sequences, and the validation split for the reported figures."""
    from bbqrec_cli.data.splits import split_of
    from bbqrec_cli.hdf5 import read_catalogue, read_item_data, read_present
    from bbqrec_cli.tokenizers.assignment.blocks import draw_sample, read_sample
    from bbqrec_cli.tokenizers.base import TokenizerInput

    present = read_present(config.features) if tokenizer.needs_features else {}
    sample: np.ndarray | None = None
    if config.fit_items:
        sample = draw_sample(tokenizer, config.method, present, config.fit_items, seed=config.seed)
    catalogue, data = read_item_data(config.features) if sample is None else (read_catalogue(config.features), None)
    features: Mapping[str, Feature] = {}
    if sample is not None:
        features = read_sample(config.features, tuple(present), sample, catalogue.items)
    elif data is not None and tokenizer.needs_features:
        features = data.features
    split = split_of(catalogue.sequences)
    return catalogue, TokenizerInput(
        item_ids=catalogue.item_ids, features=features, train=split.train, validation=split.validation, sample=sample,
        known_present=present if sample is None else None,
    )  # fmt: skip
