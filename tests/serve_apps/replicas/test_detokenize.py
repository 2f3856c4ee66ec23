"""Text of a completion piece by piece: exactly what decoding it whole yields, however the ids arrive."""

from __future__ import annotations

import random

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from serve_apps.replicas.detokenize import TextDecoder

pytestmark = pytest.mark.process

CORPUS = ["Copy a directory tree recursively.", "naïve café 日本語テキスト 👩‍👩‍👧 family", "a b  c\n\td"] * 20
SPECIAL = ["<s>", "</s>"]


def byte_level() -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=SPECIAL, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )  # fmt: skip
    tokenizer.train_from_iterator(CORPUS, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>")


def byte_fallback() -> PreTrainedTokenizerFast:
    """As SentencePiece models of the Llama family: words begin with a mark, unknown characters become bytes."""
    pieces = [*SPECIAL, *(f"<0x{byte:02X}>" for byte in range(256)), "▁Copy", "▁a", "▁tree", "▁", "a", "b"]
    tokenizer = Tokenizer(models.BPE({piece: n for n, piece in enumerate(pieces)}, [], byte_fallback=True))
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.add_special_tokens(SPECIAL)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>")


def in_pieces(tokenizer: PreTrainedTokenizerFast, ids: list[int], draw: random.Random) -> str:
    decoder, text, place = TextDecoder(tokenizer), "", 0
    while place < len(ids):
        step = draw.randrange(1, 6)
        text += decoder.feed(ids[place : place + step])
        place += step
    assert decoder.tokens == len(ids)
    return text + decoder.feed([], final=True)


def test_pieces_are_the_whole_whatever_bytes_there_are() -> None:
    tokenizer, draw = byte_level(), random.Random(7)
    for _ in range(400):
        ids = [draw.randrange(len(tokenizer)) for _ in range(draw.randrange(60))]
        assert in_pieces(tokenizer, ids, draw) == tokenizer.decode(ids, skip_special_tokens=True)


def test_with_byte_fallback_too() -> None:
    tokenizer, draw = byte_fallback(), random.Random(7)
    pieces = [*(list(char.encode()) for char in "é語👩K"), ["▁Copy"], ["▁a"], ["▁"], ["b"]]
    for _ in range(400):
        drawn = [draw.choice(pieces) for _ in range(draw.randrange(20))]
        ids = [tokenizer.convert_tokens_to_ids(p if isinstance(p, str) else f"<0x{p:02X}>") for ps in drawn for p in ps]
        ids = ids[: draw.randrange(len(ids) + 1)]
        text, whole = in_pieces(tokenizer, ids, draw), tokenizer.decode(ids, skip_special_tokens=True)
        assert text == whole or "\ufffd" in whole


def test_bytes_that_are_no_text_do_not_end_an_answer() -> None:
    tokenizer, draw = byte_fallback(), random.Random(7)
    for _ in range(400):
        ids = [draw.randrange(len(tokenizer)) for _ in range(draw.randrange(60))]
        text = in_pieces(tokenizer, ids, draw)
        assert text.count("Copy") == ids.count(tokenizer.convert_tokens_to_ids("▁Copy"))


def test_a_character_of_many_tokens_comes_whole_and_a_broken_one_at_the_end() -> None:
    tokenizer = byte_level()
    bytes_of = tokenizer.backend_tokenizer.token_to_id
    first, second = (bytes_of(mark) for mark in "Ã©")  # the two bytes of é in the alphabet of byte-level BPE
    decoder = TextDecoder(tokenizer)
    assert (decoder.feed([first]), decoder.feed([second])) == ("", "é")
    assert (decoder.feed([first]), decoder.feed([], final=True)) == ("", "\ufffd")
