"""tokenize --append: codes for new items, from the tokenizer that made a tokens file; old codes do not change."""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from bbqrec_cli.config import option, stored
from bbqrec_cli.errors import DataError
from bbqrec_cli.outputs import one_at_a_time
from bbqrec_cli.progress import SILENT, Progress
from bbqrec_cli.tokenizers.assignment.config import AssignmentConfig, AssignmentResult

if TYPE_CHECKING:
    from bbqrec_cli.records import Tokens


@dataclass(frozen=True, kw_only=True)
class AppendConfig(AssignmentConfig):
    """Options of `bbqrec tokenize --append`."""

    without: ClassVar[frozenset[str]] = frozenset({"seed"})
    alone: ClassVar[str] = "--append keeps the tokenizer of its file"
    """Why other options of `tokenize` are refused."""

    append: Path = option(
        help="Tokens file to extend: its codes do not change, and its tokenizer encodes the items that it lacks.",
        role="input", complete=".h5",
    )  # fmt: skip
    output: Path = option(Path("grown.h5"), "Tokens file to write.", role="output", short="-o", complete=".h5")


@one_at_a_time
def run(config: AppendConfig, progress: Progress = SILENT) -> AssignmentResult:
    """Encode the items of the features file that the tokens file lacks, with the tokenizer that made it.

    Raises:
        DataError, LackingError and the errors of reading and writing files.
    """
    from bbqrec_cli.data.leakage import trained_on
    from bbqrec_cli.data.merging import check_titles, merge_catalogues, new_item_rows
    from bbqrec_cli.device import resolve_device, set_threads
    from bbqrec_cli.hdf5 import check_there, describe, open_file, read_catalogue, read_tokens, write_tokens
    from bbqrec_cli.origin import plugin_of, ran_on
    from bbqrec_cli.outputs import check_output
    from bbqrec_cli.records import Tokens
    from bbqrec_cli.tokenizers.assignment.blocks import encode_blocks, feature_blocks
    from bbqrec_cli.tokenizers.assignment.collisions import MOVING_POLICIES, resolve_collisions, warn_of_shared
    from bbqrec_cli.tokenizers.assignment.encoding import check_restorable
    from bbqrec_cli.tokenizers.assignment.new_items import (
        FIT_INTERACTIONS,
        FIT_ITEMS,
        check_inputs,
        encode_new,
        fit_of,
    )
    from bbqrec_cli.tokenizers.base import SampleTokenizer, figures_of_codebooks

    began = time.perf_counter()
    check_there(config.features, "features")
    check_there(config.append, "tokens")
    check_output(config.output, force=config.force, inputs=[config.features, config.append])
    set_threads(config.threads)
    device, old, about = resolve_device(config.device), read_tokens(config.append), describe(config.append)["config"]
    tokenizer = restorable(config.append, old, about)
    with open_file(config.features, "features"):
        new = read_catalogue(config.features)
    assert old.encoder is not None  # `restorable` saw to it
    check_inputs(config.features, old.encoder, config.append)
    rows = new_item_rows(old.catalogue, new)
    if not len(rows):
        what = f"{config.append} has all items of {config.features}"
        progress.log(f"{what}: the codes stay, users and sequences are those of the latter")
    check_titles(
        old.catalogue.item_ids, old.catalogue.titles, new, old=config.append, path=config.features,
        hint="give the features of the same catalogue, grown",
    )  # fmt: skip
    # Before the codes are made, since merging needs memory of its own.
    catalogue = merge_catalogues(old.catalogue, new)
    alone = isinstance(tokenizer, SampleTokenizer) and not about["options"].get("collaborative")  # no interactions
    fit = {} if alone else fit_of(old)
    if fit and (leaked := trained_on(fit[FIT_INTERACTIONS], catalogue)):
        raise DataError(
            f"{config.append}: its tokenizer was trained on {leaked:,} interactions that {config.features} holds out",
            "prepare the new data with the split of before, or a later one; or tokenize all items again",
        )
    fitted = about.get("fitted_items", old.catalogue.items - about.get("new_items", 0))
    check_restorable(config.append, old.codes, old.encoder)
    encode = tokenizer.restore(old.codes, old.encoder, device)
    if fit:
        encode = encode_new(encode, old.codes, fit[FIT_ITEMS], neighbours=config.id_neighbours, device=device)
    quantised, codes = figures_of_codebooks(old.codes), old.codes
    if len(rows):
        made = encode_blocks(
            old.codes, encode, feature_blocks(config.features, tuple(old.encoder.inputs), rows),
            keep=old.catalogue.items, items=catalogue.items,
            latents=config.on_collision in MOVING_POLICIES, progress=progress,
        )  # fmt: skip
        quantised = figures_of_codebooks(made.codes)
        codes = resolve_collisions(made, config.on_collision, frozen=old.catalogue.items)
    left = warn_of_shared(codes, config.on_collision, progress, frozen=old.catalogue.items)
    encoder = dataclasses.replace(old.encoder, weights=old.encoder.weights | fit)
    tokens = Tokens(catalogue=catalogue, codes=codes, history=old.history, encoder=encoder)
    resolved = stored(config) | {"method": about["method"], "options": about["options"], "new_items": len(rows)}
    resolved["fitted_items"] = fitted
    resolved |= {key: about[key] for key in ("seed", "precision") if key in about}  # of the fit
    resolved["colliding_items"] = {"before": quantised["colliding_items"], "after": left}
    write_tokens(
        config.output, tokens, config=resolved, parents=[config.append, config.features], force=config.force,
        origin=ran_on(device, config.threads, "fp32") | plugin_of(type(tokenizer.config)),
    )  # fmt: skip
    return AssignmentResult(
        output=config.output, method=codes.method, levels=codes.levels, codebook_size=codes.level_sizes[0],
        signals=codes.modalities, items=catalogue.items, colliding_items=left, epochs=0,
        seconds=time.perf_counter() - began, new_items=len(rows),
        figures=figures_of_codebooks(codes) | {"colliding_items": quantised["colliding_items"]},
    )  # fmt: skip


def restorable(path: Path, old: Tokens, about: dict[str, Any]) -> Any:
    """The tokenizer that made the tokens file `path`.

    Raises:
        DataError: its codes are not computed from features, or the file does not hold the encoder.
        MissingPackageError: it is not installed; the message names its plugin.
    """
    from bbqrec_cli.hdf5 import describe
    from bbqrec_cli.origin import not_installed
    from bbqrec_cli.tokenizers.assignment.encoding import ANEW
    from bbqrec_cli.tokenizers.base import ContentTokenizer
    from bbqrec_cli.tokenizers.registry import TOKENIZERS, build_tokenizer, current_options, tokenizer_config

    tokenizer: Any = None
    if "options" in about:
        if about["method"] not in TOKENIZERS:
            made_by = describe(path)["attributes"].get("origin", {})
            raise not_installed(str(path), f"the tokenizer {about['method']!r}", made_by.get("plugin", ""))
        options = current_options(about["options"])
        tokenizer = build_tokenizer(about["method"], tokenizer_config(about["method"], options))
    if not isinstance(tokenizer, ContentTokenizer):
        raise DataError(
            f"{path}: made by the method {old.codes.method}, which cannot encode new items",
            "tokenize all items again, or use a method that reads features, such as bbqrec or rqvae",
        )
    if old.encoder is None:
        raise DataError(
            f"{path}: an older tokens file, which does not hold the encoder that new items need",
            ANEW,
        )
    if not old.encoder.inputs:
        raise DataError(
            f"{path}: its codes come of interactions alone ({', '.join(old.codes.modalities)}), which new items lack",
            "tokenize all items again, or with a content signal, such as --signals id,text",
        )
    return tokenizer
