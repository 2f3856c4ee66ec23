from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.core.config import PlinthConfig
from cluster.core.errors import BadInputError, IncompatibleError, IntegrityError
from cluster.core.progress import Silent
from cluster.core.storage import Store
from tests.train_jobs.corpora import SECTION, documents, flip_a_bit, make_dataset
from train_jobs.answering.special_tokens import SPECIAL_TOKENS
from train_jobs.data.tokenizer import fit, load_tokenizer, train_tokenizer

CONFIG = PlinthConfig(train=SECTION)
TOKENIZER = fit(iter(documents()), 512)


@pytest.fixture
def store(home, tmp_path) -> Store:
    return Store(str(tmp_path / "store"))


def test_special_tokens_come_first_in_order_each_as_one_id() -> None:
    assert [TOKENIZER.token_to_id(token) for token in SPECIAL_TOKENS] == list(range(len(SPECIAL_TOKENS)))
    assert TOKENIZER.encode("".join(SPECIAL_TOKENS)).ids == list(range(len(SPECIAL_TOKENS)))


@given(st.text())
def test_any_text_comes_back_as_it_was(text: str) -> None:
    TOKENIZER.encode_special_tokens = True
    assert TOKENIZER.decode(TOKENIZER.encode(text).ids, skip_special_tokens=False) == text
    TOKENIZER.encode_special_tokens = False


def test_it_compresses_what_it_was_trained_on() -> None:
    text = documents()[0].text
    assert len(TOKENIZER.encode(text).ids) < len(text) / 3


def test_held_out_documents_are_not_read(store: Store) -> None:
    made = documents(60)
    dataset = make_dataset(store, made)
    counts = train_tokenizer(CONFIG, store, dataset, Silent()).counts
    assert 0 < counts["documents"] < 60


def test_an_identical_run_is_reused_and_a_changed_corpus_trains_anew(store: Store) -> None:
    dataset = make_dataset(store)
    first = train_tokenizer(CONFIG, store, dataset, Silent())
    assert train_tokenizer(CONFIG, store, dataset, Silent()).created_at == first.created_at
    changed = make_dataset(store, [*documents(), *documents(40, seed=9)])
    assert train_tokenizer(CONFIG, store, changed, Silent()).version != first.version
    assert store.alias("tokenizers", "tiny", "latest") != first.version


def test_the_size_is_a_limit() -> None:
    texts = [d.__class__(**{**d.to_dict(), "text": f"{d.text} {d.text[::-1]}"}) for d in documents(300)]
    assert fit(iter(texts), 400).get_vocab_size() == 400


def test_a_corpus_that_is_too_small_is_refused(store: Store) -> None:
    with pytest.raises(BadInputError, match="too few to train on"):
        train_tokenizer(CONFIG, store, make_dataset(store, documents(5)), Silent())


def test_a_damaged_tokenizer_is_refused(store: Store) -> None:
    made = train_tokenizer(CONFIG, store, make_dataset(store), Silent())
    flip_a_bit(f"{store.artefact(made)}/tokenizer.json")
    with pytest.raises(IntegrityError):
        load_tokenizer(store, made)


def test_a_tokenizer_of_another_prompt_format_is_refused(store: Store) -> None:
    made = train_tokenizer(CONFIG, store, make_dataset(store), Silent())
    other = json.loads(store.read(f"{store.artefact(made)}/tokenizer.json"))
    text = json.dumps(other).replace("<|none|>", "<|nope|>")
    folder = store.staging("other")
    store.write(f"{folder}/tokenizer.json", text.encode())
    with pytest.raises(IncompatibleError, match="another prompt format"):
        load_tokenizer(store, store.publish("tokenizers", "tiny", folder, run_key="other"))
