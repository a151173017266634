"""Hugging Face's T5 with the sizes of `tiger --architecture t5`, as TIGER is usually written.

One sample per prefix, and `generate` with a callback that allows only what the catalogue has. B samples, T items of
history, L levels.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import T5Config, T5ForConditionalGeneration

from bbqrec_cli.benchmark.speed.measures.training import spread
from bbqrec_cli.data.batches import Epoch, PrefixBatches, held_out_batches
from bbqrec_cli.data.splits import HISTORY, PAD, Split, split_of
from bbqrec_cli.records import Catalogue


def training(job: dict[str, Any]) -> tuple[Callable[[], float], dict[str, Any]]:
    """Steps on the batches that our tiger gets, or on shuffled samples; units are targets."""
    tokens, catalogue, model = made(job)
    train, size = split(catalogue, job).train, job["options"]["batch_size"]
    made_of = PrefixBatches(train, batch_size=size, seed=job["seed"], history=history(job))
    batches, optimiser = made_of.epoch(0), torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    if job["shuffled"]:  # samples in any order, each batch padded to its longest, as a data loader makes them
        rows = np.random.default_rng(job["seed"]).permutation(np.concatenate(batches.groups))
        batches = Epoch(np.split(rows, range(size, len(rows), size)), batches.make)
    chosen = spread(batches, job["steps"])
    model.train()

    def steps() -> float:
        done = 0
        for batch in chosen:
            inputs, mask = read(tokens, batch.items)
            wanted = tokens[batch.targets[batch.targets != PAD]]
            optimiser.zero_grad(set_to_none=True)
            model(input_ids=inputs, attention_mask=mask, labels=wanted).loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
            done += len(wanted)
        return done

    return steps, {"whole": made_of.targets}


def generate(job: dict[str, Any]) -> tuple[Callable[[], float], dict[str, Any]]:
    """Ten items by beam search; units are users. What it costs does not depend on the weights, which are new."""
    tokens, catalogue, model = made(job)
    held, below = split(catalogue, job).test.first(job["asked"]), dict[tuple[int, ...], set[int]]()
    for row in tokens.tolist():
        for level, token in enumerate(row):
            below.setdefault(tuple(row[:level]), set()).add(token)
    allowed = {prefix: sorted(each) for prefix, each in below.items()}
    model.eval()

    @torch.no_grad()
    def decode() -> float:
        done = 0
        for _, batch in held_out_batches(held, 32):
            inputs, mask = read(tokens, batch.items)
            model.generate(
                input_ids=inputs, attention_mask=mask, num_beams=job["beam"], num_return_sequences=10,
                min_new_tokens=tokens.shape[1], max_new_tokens=tokens.shape[1], do_sample=False,
                prefix_allowed_tokens_fn=lambda _, prefix: allowed.get(tuple(prefix[1:].tolist()), [0]),
            )  # fmt: skip
            done += len(inputs)
        return done

    return decode, {}


def made(job: dict[str, Any]) -> tuple[Tensor, Any, Any]:
    """Tokens (I, L) of each item, the catalogue, and a model with new weights. Token 0 is the start and the padding.

    Raises: ValueError: several codes per level.
    """
    from bbqrec_cli.hdf5 import read_codes

    torch.manual_seed(job["seed"])
    catalogue, ids = read_codes(Path(job["folder"], job["ids"]))
    if ids.codes.shape[2] != 1:
        raise ValueError("it needs IDs with one code per level")
    codes, options = torch.from_numpy(ids.codes[:, :, 0].astype("int64")), job["options"]
    tokens = codes + 1 + ids.codebook_size * torch.arange(ids.levels)
    width, start = options["width"], {"decoder_start_token_id": 0, "pad_token_id": 0, "eos_token_id": None}
    sizes: dict[str, Any] = {**start, "num_layers": options["layers"], "num_decoder_layers": options["decoder_layers"]}
    of_head = options.get("head_width") or width // options["heads"]
    sizes |= {"num_heads": options["heads"], "d_model": width, "d_kv": of_head}
    sizes |= {"d_ff": options.get("inner") or 4 * width}
    config = T5Config(vocab_size=1 + ids.levels * ids.codebook_size, dropout_rate=0.1, **sizes)
    return tokens, catalogue, T5ForConditionalGeneration(config)


def history(job: dict[str, Any]) -> int:
    """Items of a history at most."""
    return job["options"].get("history", HISTORY)


def split(catalogue: Catalogue, job: dict[str, Any]) -> Split:
    """With histories as long as our model's."""
    return split_of(catalogue.sequences, history=history(job))


def read(tokens: Tensor, items: Tensor) -> tuple[Tensor, Tensor]:
    """Input tokens (B, T·L) and their mask, of items (B, T) with PAD."""
    seen = (items >= 0).long().repeat_interleave(tokens.shape[1], 1)
    return tokens[items.clamp(min=0)].flatten(1) * seen, seen
