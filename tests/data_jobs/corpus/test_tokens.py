"""Token shards: every document whole and in order behind its start, safe to load, the same bytes every time."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from cluster.core.errors import BadInputError, IntegrityError
from cluster.core.progress import Silent
from cluster.core.records import Document
from cluster.core.storage import Store
from data_jobs.corpus.blocks import DOCUMENT_SCHEMA
from data_jobs.corpus.parquet import parquet_bytes
from data_jobs.corpus.tokens import Encoder, encode, find_encoder, finished, make_encoder, shards_of, write_shard
from data_jobs.governance.tombstones import add_tombstone, read_tombstones

TEXTS = ["The pump runs.", "Ein Über-Test: 日本語 🦀 and\nlines.", "a", "word " * 600]


def trained(end: str | None = "<|endoftext|>") -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = [end] if end else []
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    return tokenizer


TOKENIZER = trained()
ENCODER = make_encoder("test", TOKENIZER.to_str().encode())


def dataset(store: Store, texts: list[list[str]]):
    staging = store.staging("data")
    for number, part in enumerate(texts):
        rows = [Document(f"{number}-{i}", "t", text, "s").to_dict() for i, text in enumerate(part)]
        store.write(f"{staging}/documents-{number:05d}.parquet", parquet_bytes(rows, DOCUMENT_SCHEMA))
    return store.publish("datasets", "corpus", staging, run_key="data")


def test_every_document_comes_back_whole_from_its_place() -> None:
    tokens, starts = encode(TEXTS, ENCODER, ENCODER.load())
    assert tokens.dtype == np.uint16
    assert starts.tolist()[0] == 0
    assert starts.tolist()[-1] == len(tokens)
    for number, text in enumerate(TEXTS):
        ids = tokens[starts[number] : starts[number + 1]].tolist()
        assert ids.count(ENCODER.end) == 1
        assert ids[-1] == ENCODER.end
        assert TOKENIZER.decode(ids[:-1]) == text
    assert [len(part) for part in encode([], ENCODER, ENCODER.load())] == [0, 1]


def test_a_shard_is_two_safe_files_and_the_same_bytes_every_time(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "store"))
    made = dataset(store, [TEXTS[:2], TEXTS[2:]])
    first, second = (shards_of(store, made, str(tmp_path / name)) for name in ("one", "two"))
    assert finished(first[0]) is None
    for one, two in zip(first, second, strict=True):
        counts = write_shard(one, ENCODER)
        assert write_shard(two, ENCODER) == counts == finished(one)
        assert Path(one.tokens_path).read_bytes() == Path(two.tokens_path).read_bytes()
        tokens = np.load(one.tokens_path, mmap_mode="r", allow_pickle=False)
        starts = np.load(io.BytesIO(Path(one.starts_path).read_bytes()), allow_pickle=False)
        assert counts == {"documents": len(starts) - 1, "tokens": len(tokens)}


def test_what_was_forgotten_since_is_in_no_shard(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "store"))
    made = dataset(store, [["A secret of Ann's.", "The pump runs."]])
    add_tombstone(store, document="0-0")
    (shard,) = shards_of(store, made, str(tmp_path / "out"))
    assert write_shard(shard, ENCODER)["documents"] == 1
    tokens = np.load(shard.tokens_path, allow_pickle=False).tolist()
    assert TOKENIZER.decode(tokens[:-1]) == "The pump runs."


@pytest.mark.process  # imports ray
def test_what_is_forgotten_during_the_run_is_not_published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from data_jobs import make_tokens

    store = Store(str(tmp_path / "store"))
    made = dataset(store, [["A secret of Ann's.", "The pump runs."], ["More."]])

    def here(function, jobs, doing):  # one after the other in this process; Ann is forgotten after the first shard
        for number, arguments in enumerate(jobs):
            yield number, function(*arguments)
            if not read_tombstones(store):
                add_tombstone(store, document="0-0")

    monkeypatch.setattr(make_tokens, "spread", here)
    monkeypatch.setattr(make_tokens.ray, "put", lambda value: value)
    assert make_tokens.tokenise(store, made, ENCODER, Silent()).counts["documents"] == 2


def test_a_large_vocabulary_takes_four_bytes() -> None:
    assert Encoder("x", "", 0, 65_536).dtype is np.uint16
    assert Encoder("x", "", 0, 65_537).dtype is np.uint32


def test_a_tokenizer_is_found_in_a_folder_and_in_the_store(tmp_path: Path) -> None:
    folder = tmp_path / "tok"
    folder.mkdir()
    TOKENIZER.save(str(folder / "tokenizer.json"))
    store = Store(str(tmp_path / "store"))
    assert find_encoder(store, str(folder)).end == ENCODER.end
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": {"content": "a"}}))
    assert find_encoder(store, str(folder / "tokenizer.json")).end == TOKENIZER.token_to_id("a")
    staging = store.staging("t")
    store.write(f"{staging}/tokenizer.json", TOKENIZER.to_str().encode())
    manifest = store.publish("tokenizers", "small", staging, run_key="t")
    store.move_alias("tokenizers", "small", "latest", manifest.version, "test")
    assert find_encoder(store, "small") == find_encoder(store, f"small@{manifest.version}")
    path = Path(store.artefact(manifest)) / "tokenizer.json"
    path.write_bytes(path.read_bytes().replace(b"a", b"b", 1))
    with pytest.raises(IntegrityError):
        find_encoder(store, "small")


def test_what_is_no_tokenizer_or_cannot_end_a_document_is_refused(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "store"))
    refused = ((str(tmp_path / "absent"), "holds no tokenizer.json"), ("absent", "absent@latest among the tokenizers"))
    for where, message in refused:
        with pytest.raises(BadInputError, match=message):
            find_encoder(store, where)
    with pytest.raises(BadInputError, match="is no tokenizer"):
        make_encoder("x", b"{}")
    with pytest.raises(BadInputError, match="no token ends a document"):
        make_encoder("x", trained(end=None).to_str().encode())
    with pytest.raises(BadInputError, match=r"tokenizer_config\.json"):
        make_encoder("x", TOKENIZER.to_str().encode(), b"[")


def test_what_looks_like_a_control_token_is_text() -> None:
    tokenizer = trained()
    tokenizer.add_tokens(["<|tool|>"])  # published tokenizers do not mark all of theirs as special
    encoder = make_encoder("test", tokenizer.to_str().encode())
    text = "Write <|endoftext|> to end, <|tool|> to call."
    tokens, starts = encode([text, "a"], encoder, encoder.load())
    assert np.flatnonzero(tokens == encoder.end).tolist() == [int(starts[1]) - 1, int(starts[2]) - 1]
    assert tokenizer.token_to_id("<|tool|>") not in tokens
    assert tokenizer.decode(tokens[: int(starts[1]) - 1].tolist(), skip_special_tokens=False) == text
