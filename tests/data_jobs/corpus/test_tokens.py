"""Token shards: every document whole and in order behind its start, safe to load, the same bytes every time."""

from __future__ import annotations

import hashlib
import itertools
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from cluster.core.errors import BadInputError, IncompatibleError, IntegrityError
from cluster.core.progress import Silent
from cluster.core.records import Document
from cluster.core.storage import Store
from data_jobs.corpus import tokens as token_shards
from data_jobs.corpus.blocks import DOCUMENT_SCHEMA
from data_jobs.corpus.parquet import parquet_bytes
from data_jobs.corpus.splits import is_held_out
from data_jobs.corpus.token_index import SIDES, TokenFile, read_index
from data_jobs.corpus.tokens import (
    Encoder,
    document_text,
    encode,
    find_encoder,
    finished,
    make_encoder,
    shards_of,
    tokenise,
    write_here,
    write_shard,
)
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


def dataset(store: Store, texts: list[list[str]], key: str = "data", titles: str = ""):
    staging = store.staging(key)
    for number, part in enumerate(texts):
        rows = [Document(f"{number}-{i}", titles, text, "s").to_dict() for i, text in enumerate(part)]
        store.write(f"{staging}/documents-{number:05d}.parquet", parquet_bytes(rows, DOCUMENT_SCHEMA))
    return store.publish("datasets", "corpus", staging, run_key=key)


def made(store: Store, corpus, encoder: Encoder = ENCODER, share: float = 0.3):
    return tokenise(store, corpus, encoder, share, Silent(), write_here)


def test_every_document_comes_back_whole_from_its_place() -> None:
    tokens, starts = encode(TEXTS, ENCODER, ENCODER.load())
    assert tokens.dtype == np.uint16
    assert starts.tolist()[0] == 0
    assert starts.tolist()[-1] == len(tokens)
    for number, text in enumerate(TEXTS):
        ids = tokens[starts[number] : starts[number + 1]].tolist()
        assert (ids[0], ids[-1]) == (ENCODER.begin, ENCODER.end)
        assert not {ENCODER.begin, ENCODER.end} & set(ids[1:-1])
        assert TOKENIZER.decode(ids[1:-1]) == text
    assert [len(part) for part in encode([], ENCODER, ENCODER.load())] == [0, 1]


def test_each_side_holds_its_documents_with_name_and_title(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "store"))
    texts = [f"The pump {n} runs." for n in range(40)]
    manifest = made(store, dataset(store, [texts[:25], texts[25:]], titles="On pumps"))
    index = read_index(store, manifest, ENCODER.sha256)
    folder = Path(store.artefact(manifest))
    seen = 0
    for side in SIDES:
        (shard,) = index.shards(side)  # two small files make one shard
        ids, starts = (np.load(folder / file.path, allow_pickle=False) for file in (shard.ids, shard.starts))
        assert (len(starts) - 1, len(ids)) == (shard.documents, shard.tokens)
        size = 0
        for start, end in itertools.pairwise(starts):
            whole = TOKENIZER.decode(ids[start + 1 : end - 1].tolist())
            size += len(whole.encode())
            name, title, text = whole.split("\n")
            assert is_held_out(name, 0.3) == (side == "held_out")
            assert (title, text in texts) == ("On pumps", True)
            seen += 1
        assert shard.text_bytes == size
    assert seen == manifest.counts["documents"] == 40
    assert 0 < manifest.counts["held_out_tokens"] < manifest.counts["train_tokens"]


def test_the_name_alone_stands_where_there_is_no_title() -> None:
    assert document_text(Document("a.md", "", "Text.", "s")) == "a.md\nText."
    assert document_text(Document("a.md", "a.md", "Text.", "s")) == "a.md\nText."


def test_a_shard_is_the_same_bytes_every_time_and_hashed_in_blocks(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(token_shards, "SHARD_BYTES", 1)  # each file a shard
    monkeypatch.setattr("data_jobs.corpus.token_index.BLOCK_BYTES", 256)
    store = Store(str(tmp_path / "store"))
    corpus = dataset(store, [TEXTS[:2], TEXTS[2:]])
    first, second = (shards_of(store, corpus, str(tmp_path / name / "shards"), 0.01) for name in ("one", "two"))
    assert len(first) == 2
    assert finished(first[0]) is None
    for one, two in zip(first, second, strict=True):
        entries = write_shard(one, ENCODER)
        assert write_shard(two, ENCODER) == entries == finished(one)
        file = entries["train"].ids
        assert file is not None
        body = (Path(one.output) / file.path).read_bytes()
        assert body == (Path(two.output) / file.path).read_bytes()
        assert len(file.blocks) == 64 * -(-len(body) // 256)
        assert file.block_sha256(0) == hashlib.sha256(body[:256]).hexdigest()
        assert np.frombuffer(body, np.uint16, offset=file.offset).size == entries["train"].tokens


def test_an_identical_run_finds_it_and_another_share_or_tokenizer_makes_another(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "store"))
    corpus = dataset(store, [TEXTS])
    first = made(store, corpus)
    assert made(store, corpus) == first
    assert made(store, corpus, share=0.49).version != first.version
    other = make_encoder("other", trained("</s>").to_str().encode())
    assert made(store, corpus, other).version != first.version


def test_a_killed_run_goes_on_with_the_shards_it_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_shards, "SHARD_BYTES", 1)
    store = Store(str(tmp_path / "store"))
    corpus = dataset(store, [TEXTS[:2], TEXTS[2:]])
    written: list[int] = []

    def killed(shards, encoder, progress):
        for number, entries in write_here(shards[: 1 if not written else None], encoder, progress):
            written.append(shards[number].number)
            yield number, entries
        if len(written) == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tokenise(store, corpus, ENCODER, 0.3, Silent(), killed)
    assert tokenise(store, corpus, ENCODER, 0.3, Silent(), killed).counts["documents"] == 4
    assert written == [0, 1]


def test_what_was_forgotten_since_is_in_no_shard(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "store"))
    corpus = dataset(store, [["A secret of Ann's.", "The pump runs."]])
    before = made(store, corpus)
    add_tombstone(store, document="0-0")
    after = made(store, corpus)
    assert (before.counts["documents"], after.counts["documents"]) == (2, 1)
    index = read_index(store, after)
    (shard,) = (shard for side in SIDES for shard in index.shards(side))
    tokens = np.load(Path(store.artefact(after)) / shard.ids.path, allow_pickle=False).tolist()
    assert TOKENIZER.decode(tokens[1:-1]) == "0-1\nThe pump runs."


def test_what_is_forgotten_during_the_run_is_not_published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_shards, "SHARD_BYTES", 1)
    store = Store(str(tmp_path / "store"))
    corpus = dataset(store, [["A secret of Ann's.", "The pump runs."], ["More."]])

    def forgetting(shards, encoder, progress):  # Ann is forgotten after the first shard
        for one in write_here(shards, encoder, progress):
            yield one
            if not read_tombstones(store):
                add_tombstone(store, document="0-0")

    assert tokenise(store, corpus, ENCODER, 0.3, Silent(), forgetting).counts["documents"] == 2


def test_a_dataset_without_text_is_refused(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "store"))
    with pytest.raises(BadInputError, match="holds no text"):
        made(store, dataset(store, [[""]]))


# -- what readers refuse -----------------------------------------------------------------------------------------------
def test_tokens_of_another_tokenizer_are_refused_by_name(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "store"))
    manifest = made(store, dataset(store, [TEXTS]))
    with pytest.raises(IncompatibleError, match=rf"tokens corpus@{manifest.version}.*another tokenizer.*plinth data"):
        read_index(store, manifest, "0" * 64)


def test_tokens_of_an_earlier_version_are_refused_by_name(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "store"))
    staging = store.staging("old")
    for name in ("tokens-00000.npy", "starts-00000.npy", "report.json"):
        store.write(f"{staging}/{name}", b"x")
    old = store.publish("tokens", "corpus", staging, run_key="old", inputs={"dataset": "corpus@1"})
    with pytest.raises(IncompatibleError, match=r"earlier version.*plinth data tokens --dataset corpus@1"):
        read_index(store, old)


@pytest.mark.parametrize("harm", ["cut", "gone", "longer", "bit", "index"])
def test_truncated_and_changed_shards_are_refused_with_what_to_do(tmp_path: Path, harm: str) -> None:
    store = Store(str(tmp_path / "store"))
    corpus = dataset(store, [TEXTS])
    manifest = made(store, corpus)
    folder = Path(store.artefact(manifest))
    path = folder / ("index.json" if harm == "index" else "train-ids-00000.npy")
    body = path.read_bytes()
    if harm == "gone":
        path.unlink()
    else:
        path.write_bytes({"cut": body[:-2], "longer": body + b"xx"}.get(harm, bytes([body[0] ^ 1]) + body[1:]))
    if harm != "bit":
        with pytest.raises(IntegrityError, match=r"delete .* and run the same command again"):
            read_index(store, manifest)
    with pytest.raises(IntegrityError, match=rf"{path.name}.*delete .* and run the same command again"):
        made(store, corpus)
    shutil.rmtree(folder)
    assert made(store, corpus).version == manifest.version


def test_an_entry_hashes_the_whole_and_every_block() -> None:
    file = TokenFile.of("x", b"header" + bytes(10), 10)
    assert (file.bytes, file.offset, len(file.blocks)) == (16, 6, 64)
    assert file.blocks == file.sha256


def test_a_large_vocabulary_takes_four_bytes() -> None:
    assert Encoder("x", "", 0, 0, 65_536).dtype is np.uint16
    assert Encoder("x", "", 0, 0, 65_537).dtype is np.uint32


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
    assert encoder.begin == encoder.end  # nothing else begins a document
    ends = [0, int(starts[1]) - 1, int(starts[1]), int(starts[2]) - 1]
    assert np.flatnonzero(tokens == encoder.end).tolist() == ends
    assert tokenizer.token_to_id("<|tool|>") not in tokens
    assert tokenizer.decode(tokens[1 : int(starts[1]) - 1].tolist(), skip_special_tokens=False) == text
