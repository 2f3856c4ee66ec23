"""A tokenizer with more tokens: old texts keep their ids, new tokens begin as the mean of what they were."""

from __future__ import annotations

import json

import pytest

from cluster.core.errors import BadInputError, UnsupportedError
from train_jobs.answering.special_tokens import SPECIAL_TOKENS
from train_jobs.data.vocabulary import extend

TEXTS = ["Die Geschwindigkeit der Pumpe. Die Geschwindigkeit des Ventils.", "Geschwindigkeitsmessung an der Pumpe"] * 3


def plain_bpe() -> str:
    """Byte-level BPE as of another project: its own begin token put around every text, trained on English."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=280, special_tokens=["<s>"], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(["the pump and the valve, the hose and the gauge"] * 9, trainer)
    tokenizer.post_processor = processors.TemplateProcessing("<s> $A", special_tokens=[("<s>", 0)])
    return tokenizer.to_str()


def test_every_token_of_the_prompt_becomes_one_id_and_old_ones_stay() -> None:
    from tokenizers import Tokenizer

    given = plain_bpe()
    old, made = Tokenizer.from_str(given), extend(given)
    size = old.get_vocab_size()
    ids = made.tokenizer.encode("".join(SPECIAL_TOKENS)).ids
    assert ids == list(range(size, size + len(SPECIAL_TOKENS))), "nothing is put around a text any more"
    assert made.size == size + len(SPECIAL_TOKENS)
    text = "the gauge of the pump"
    assert made.tokenizer.encode(text).ids == old.encode(text, add_special_tokens=False).ids
    for number, token in zip(ids, SPECIAL_TOKENS, strict=True):
        assert old.decode(made.pieces[number]) == token


def test_learnt_tokens_shorten_texts_and_change_no_other() -> None:
    from tokenizers import Tokenizer

    given = plain_bpe()
    old, made = Tokenizer.from_str(given), extend(given, TEXTS, 30)
    before, after = (t.encode(TEXTS[0], add_special_tokens=False) for t in (old, made.tokenizer))
    assert len(after.ids) < len(before.ids) / 2
    assert "ĠGeschwindigkeit" in after.tokens
    assert made.tokenizer.decode(after.ids) == TEXTS[0]
    # Written with their pieces, new tokens are the old text.
    assert old.decode([i for number in after.ids for i in made.pieces.get(number, [number])]) == TEXTS[0]
    assert all(piece < old.get_vocab_size() for ids in made.pieces.values() for piece in ids)
    english = "the hose and the valve"
    assert made.tokenizer.encode(english).ids == old.encode(english, add_special_tokens=False).ids


def test_added_tokens_outside_the_vocabulary_keep_their_numbers_and_are_never_merged() -> None:
    """As Llama 3 and Qwen have them: numbered behind the model's own vocabulary."""
    from tokenizers import AddedToken, Tokenizer

    tokenizer = Tokenizer.from_str(plain_bpe())
    tokenizer.add_special_tokens([AddedToken("<|im_start|>"), AddedToken("<|im_end|>")])
    tokenizer.add_tokens([AddedToken("TICKET")])
    given = tokenizer.to_str()
    old = Tokenizer.from_str(given)
    assert "<|im_start|>" not in json.loads(given)["model"]["vocab"]
    texts = [f"<|im_start|>{text}<|im_end|> TICKET TICKET" for text in TEXTS]
    made = extend(given, texts, 30)
    for token in ("<|im_start|>", "<|im_end|>", "TICKET", "<s>"):
        assert made.tokenizer.token_to_id(token) == old.token_to_id(token)
    ids = made.tokenizer.encode(texts[0], add_special_tokens=False).ids
    assert len(ids) < len(old.encode(texts[0], add_special_tokens=False).ids) / 2
    assert ids[0] == old.token_to_id("<|im_start|>")
    assert ids.count(old.token_to_id("TICKET")) == 2
    assert made.tokenizer.decode(ids, skip_special_tokens=False) == old.decode(
        old.encode(texts[0], add_special_tokens=False).ids, skip_special_tokens=False
    )
    numbers = sorted(made.tokenizer.get_vocab(with_added_tokens=True).values())
    assert numbers == list(range(made.size)), "each number once"


def test_a_corpus_that_repeats_nothing_adds_nothing() -> None:
    made = extend(plain_bpe(), ["xq"], 30)
    assert len(made.pieces) == len(SPECIAL_TOKENS)


def test_what_cannot_be_extended_is_refused() -> None:
    from tokenizers import Tokenizer, models

    words = Tokenizer(models.WordLevel({"a": 0, "[UNK]": 1}, unk_token="[UNK]")).to_str()
    assert extend(words).size > 2, "the prompt's own tokens need no merges"
    with pytest.raises(UnsupportedError, match="WordLevel"):
        extend(words, TEXTS, 5)
    with pytest.raises(BadInputError, match=r"no tokenizer\.json"):
        extend(json.dumps({"version": "1.0"}))
