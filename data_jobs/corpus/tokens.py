"""Documents to token shards: the last stage of preparing a corpus for pretraining (ray-free).

``token_index.py`` says what an artefact is made of. What pretraining reads of a document is ``document_text``: its
name, its title where that adds to it, its text, between a begin and an end token. What looks like a special token in a
document is encoded as its letters, so that begin and end tokens stand at the ends of documents only. The same documents
and tokenizer give the same bytes.
"""

from __future__ import annotations

import functools
import hashlib
import io
import json
import posixpath
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cluster.core.errors import BadInputError, IntegrityError
from cluster.core.progress import Progress
from cluster.core.records import Document, Manifest
from cluster.core.run_keys import RunKey, sections_but
from cluster.core.storage import Store
from cluster.core.telemetry import log_event
from data_jobs.corpus.dataset import remembered_batches
from data_jobs.corpus.splits import is_held_out
from data_jobs.corpus.token_index import INDEX, KIND, SIDES, ShardSide, Side, TokenFile, TokenIndex, remedy
from data_jobs.governance.tombstones import read_tombstones
from data_jobs.text.special_tokens import reads_as_text

if TYPE_CHECKING:
    from tokenizers import Tokenizer

TOKENIZERS = "tokenizers"
FILE = "tokenizer.json"
CONFIG = "tokenizer_config.json"
# What ends a document, by the names tokenizers use for it; `tokenizer_config.json` has the first word.
END_TOKENS = ("<|eos|>", "<|endoftext|>", "</s>", "<|end_of_text|>", "<eos>", "[SEP]")
# The same for what begins one. A tokenizer without any of these begins documents with its end token, as GPT-2's does.
BEGIN_TOKENS = ("<|bos|>", "<s>", "<|begin_of_text|>", "<bos>", "[CLS]")
# Documents are encoded this many at a time, so that a large file does not fill the memory.
BATCH = 256
# Documents files (Parquet, zstd) that make up one shard: some 50 MB of text, seconds of tokenising. A dataset of
# no more is tokenised where it is asked for: workers would start for longer than they work.
SHARD_BYTES = 16 << 20
ALIAS = "latest"
KEY = RunKey("tokens", (__name__,), outside=sections_but())  # the key has the held-out share as an input


@dataclass(frozen=True)
class Encoder:
    """A tokenizer as shards need it: ``tokenizer.json`` as text, and the ids that begin and end a document."""

    source: str
    json: str
    begin: int
    end: int
    vocabulary: int

    @property
    def sha256(self) -> str:
        """What tells tokenizers apart: the hash of tokenizer.json."""
        return hashlib.sha256(self.json.encode()).hexdigest()

    @property
    def dtype(self) -> type[np.uint16] | type[np.uint32]:
        """The smallest type that holds every id of the vocabulary."""
        return np.uint16 if self.vocabulary <= 1 << 16 else np.uint32

    def load(self) -> Tokenizer:
        """The tokenizer itself, ready to encode: it neither pads nor truncates, and reads special tokens as text."""
        return _loaded(self.json)


@functools.lru_cache(maxsize=1)  # one per process: each one loaded costs 4 MB that never come back (tokenizers 0.23)
def _loaded(tokenizer_json: str) -> Tokenizer:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_str(tokenizer_json)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return reads_as_text(tokenizer)


def find_encoder(store: Store, where: str) -> Encoder:
    """The tokenizer at ``where``: a folder (or file) with ``tokenizer.json``, or a tokenizer artefact NAME[@VERSION].

    Raises:
        BadInputError: there is none, or nothing in it ends a document.
        IntegrityError: the artefact is damaged.
    """
    path = Path(where).expanduser()
    if path.is_file():
        path = path.parent
    if (path / FILE).is_file():
        config = path / CONFIG
        return make_encoder(str(path), (path / FILE).read_bytes(), config.read_bytes() if config.is_file() else b"{}")
    if "/" in where:
        raise BadInputError(f"{where} holds no {FILE}: give a folder with one, or a tokenizer artefact NAME[@VERSION]")
    name, _, version = where.partition("@")
    manifest = store.manifest(TOKENIZERS, name, version or "latest")
    store.verify(manifest)
    folder = store.artefact(manifest)
    known = CONFIG in {f.path for f in manifest.files}
    config_json = store.read(posixpath.join(folder, CONFIG)) if known else b"{}"
    return make_encoder(f"{name}@{manifest.version}", store.read(posixpath.join(folder, FILE)), config_json)


def make_encoder(source: str, tokenizer_json: bytes, config: bytes = b"{}") -> Encoder:
    """An encoder out of the bytes of ``tokenizer.json`` and, for begin and end token, ``tokenizer_config.json``.

    Args:
        source: where they are from, for messages.

    Raises:
        BadInputError: they are no tokenizer, or nothing in them ends a document.
    """
    from tokenizers import Tokenizer

    try:
        text = tokenizer_json.decode()
        tokenizer = Tokenizer.from_str(text)
    except Exception as error:  # the library raises nothing more special
        raise BadInputError(f"{source}: {FILE} is no tokenizer: {error}") from error
    try:
        said = json.loads(config)
        named = {role: said.get(f"{role}_token") for role in ("bos", "eos")}
    except (ValueError, AttributeError) as error:
        raise BadInputError(f"{source}: tokenizer_config.json cannot be read: {error}") from error
    end = _first_known(tokenizer, named["eos"], END_TOKENS)
    if end is None:
        known = " ".join(END_TOKENS)
        raise BadInputError(
            f"{source}: no token ends a document: {CONFIG} names no eos_token, and none is one of {known}"
        )
    begin = _first_known(tokenizer, named["bos"], BEGIN_TOKENS)
    size = tokenizer.get_vocab_size(with_added_tokens=True)
    return Encoder(source, text, end if begin is None else begin, end, size)


def _first_known(tokenizer: Tokenizer, named: Any, usual: Sequence[str]) -> int | None:
    """The id of the token that the configuration names, or else of the first usual one that there is."""
    name = named.get("content") if isinstance(named, dict) else named
    ids = (tokenizer.token_to_id(token) for token in (name, *usual) if isinstance(token, str))
    return next((found for found in ids if found is not None), None)


def document_text(document: Document) -> str:
    """A document as a model reads it in pretraining: its name, its title where that adds to it, its text."""
    head = document.id if document.title in ("", document.id) else f"{document.id}\n{document.title}"
    return f"{head}\n{document.text}"


def encode(
    texts: Sequence[str], encoder: Encoder, tokenizer: Tokenizer
) -> tuple[npt.NDArray[Any], npt.NDArray[np.uint64]]:
    """(ids, starts) of documents, as ``token_index.py`` describes them."""
    parts: list[npt.NDArray[Any]] = []
    for at in range(0, len(texts), BATCH):
        for one in tokenizer.encode_batch_fast(list(texts[at : at + BATCH]), add_special_tokens=False):
            parts.append(np.asarray([encoder.begin, *one.ids, encoder.end], dtype=encoder.dtype))
    return joined(parts, encoder)


def joined(parts: Sequence[npt.NDArray[Any]], encoder: Encoder) -> tuple[npt.NDArray[Any], npt.NDArray[np.uint64]]:
    """(ids, starts) of documents that are encoded already."""
    ids = np.concatenate(parts) if parts else np.zeros(0, dtype=encoder.dtype)
    ends = np.cumsum([len(part) for part in parts], dtype=np.uint64)
    return ids, np.concatenate([np.zeros(1, dtype=np.uint64), ends])


def npy_bytes(array: npt.NDArray[Any]) -> bytes:
    """An array as the bytes of a ``.npy`` file without pickled objects."""
    sink = io.BytesIO()
    np.save(sink, array, allow_pickle=False)
    return sink.getvalue()


# -- one shard ---------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Shard:
    """Shard ``number``: the documents files at ``paths``, written below ``output``; ``share`` of them is held out."""

    number: int
    store: str
    paths: tuple[str, ...]
    output: str
    share: float

    @property
    def done_path(self) -> str:
        """Where its entries of the index go, last of all: a shard with it is whole. Not part of the artefact."""
        return posixpath.join(posixpath.dirname(self.output), "done", f"{self.number:05d}.json")


Entries = dict[Side, ShardSide]


def shards_of(store: Store, dataset: Manifest, output: str, share: float) -> list[Shard]:
    """The shards of a dataset: its documents files in the order of their names, as many as make ``SHARD_BYTES``."""
    folder = store.artefact(dataset)
    groups: list[list[str]] = []
    room = 0
    for file in sorted((f for f in dataset.files if f.path.startswith("documents-")), key=lambda f: f.path):
        if not groups or file.bytes > room:
            groups.append([])
            room = SHARD_BYTES
        groups[-1].append(posixpath.join(folder, file.path))
        room -= file.bytes
    return [Shard(n, store.uri, tuple(group), output, share) for n, group in enumerate(groups)]


def write_shard(shard: Shard, encoder: Encoder) -> Entries:
    """Tokenise the documents of one shard but what was forgotten, and write its files."""
    store, tokenizer = Store(shard.store), encoder.load()
    parts: dict[Side, list[npt.NDArray[Any]]] = {side: [] for side in SIDES}
    sizes: dict[Side, int] = dict.fromkeys(SIDES, 0)
    for path in shard.paths:
        for documents in remembered_batches(store, path):
            with_text = [document for document in documents if document.text]
            texts = [document_text(document) for document in with_text]
            ids, starts = encode(texts, encoder, tokenizer)
            for document, text, start, end in zip(with_text, texts, starts, starts[1:], strict=False):
                side: Side = "held_out" if is_held_out(document.id, shard.share) else "train"
                parts[side].append(ids[start:end])
                sizes[side] += len(text.encode())
    entries: Entries = {side: _write_side(store, shard, side, parts.pop(side), encoder, sizes[side]) for side in SIDES}
    body = json.dumps({side: asdict(entry) for side, entry in entries.items()}).encode()
    store.write(shard.done_path, body)
    return entries


def _write_side(
    store: Store, shard: Shard, side: Side, parts: list[npt.NDArray[Any]], encoder: Encoder, text_bytes: int
) -> ShardSide:  # fmt: skip
    if not parts:
        return ShardSide()
    ids, starts = joined(parts, encoder)
    files = {}
    for name, array in (("starts", starts), ("ids", ids)):
        path, body = f"{side}-{name}-{shard.number:05d}.npy", npy_bytes(array)
        store.write(posixpath.join(shard.output, path), body)
        files[name] = TokenFile.of(path, body, array.nbytes)
    return ShardSide(len(parts), len(ids), text_bytes, files["ids"], files["starts"])


def finished(shard: Shard) -> Entries | None:
    """What an earlier run wrote of a shard that it finished, or None."""
    store = Store(shard.store)
    if not store.exists(shard.done_path):
        return None
    rows = store.read_json(shard.done_path)
    return {side: ShardSide.from_dict(rows[side]) for side in SIDES}


# -- the artefact ------------------------------------------------------------------------------------------------------
CarryOut = Callable[[list[Shard], Encoder, Progress], Iterator[tuple[int, Entries]]]


def tokenise(
    store: Store, dataset: Manifest, encoder: Encoder, share: float, progress: Progress, carry_out: CarryOut
) -> Manifest:
    """Publish ``tokens/<dataset's name>``, or find that an identical earlier run did; a killed one goes on.

    Args:
        share: of the documents, held out.
        carry_out: writes shards on the cluster and yields (number in the list, entries); a single one is written here.

    Raises:
        BadInputError: the dataset holds no text.
        IntegrityError: the dataset's files are damaged, or those of tokens that were made before.
    """
    key, settings, inputs = _identity(store, dataset, encoder, share)
    manifest = find_tokens(store, dataset, encoder, share)
    if manifest is None:
        store.verify(dataset)
        output = posixpath.join(store.staging(key), "shards")
        shards = shards_of(store, dataset, output, share)
        done = {shard.number: entries for shard in shards if (entries := finished(shard)) is not None}
        progress.stage("tokenise", len(shards), "shards")
        progress.advance(len(done))
        todo = [shard for shard in shards if shard.number not in done]
        for at, entries in (carry_out if len(shards) > 1 else write_here)(todo, encoder, progress):
            done[todo[at].number] = entries
            progress.advance()
        if read_tombstones(store).key != settings["forgotten"]:  # forgotten meanwhile: the first shards may hold it
            store.fs.rm(store.staging(key), recursive=True)
            return tokenise(store, dataset, encoder, share, progress, carry_out)
        sides = {side: tuple(done[shard.number][side] for shard in shards) for side in SIDES}
        index = TokenIndex(
            encoder.dtype.__name__, encoder.vocabulary, encoder.begin, encoder.end, encoder.sha256, inputs["dataset"],
            share, **sides,
        )  # fmt: skip
        counts = counts_of(index)
        if not counts["documents"]:
            raise BadInputError(f"{inputs['dataset']} holds no text: nothing to tokenise")
        store.write(posixpath.join(output, INDEX), index.to_json())
        manifest = store.publish(KIND, dataset.name, output, run_key=key, inputs=inputs, config=settings, counts=counts)
        _check_whole(store, manifest)  # publishing leaves a version that is there already as it is
        if store.exists(emptied := store.staging(key)):
            store.fs.rm(emptied, recursive=True)
        log_event("data", "tokens_published", name=manifest.name, version=manifest.version, counts=counts)
    store.move_alias(KIND, manifest.name, ALIAS, manifest.version, why=f"made from {inputs['dataset']}")
    return manifest


def find_tokens(store: Store, dataset: Manifest, encoder: Encoder, share: float) -> Manifest | None:
    """The artefact that ``tokenise`` would make, where it is there and, on a local store, whole.

    On an object store only sizes are compared: who reads a range there checks the hash of what arrives.
    """
    key, _, _ = _identity(store, dataset, encoder, share)
    path = store.path("runs", f"{key}.json")
    if not store.exists(path):
        return None
    run = store.read_json(path)
    if not store.exists(store.path(run["kind"], run["name"], run["version"], INDEX)):
        return None
    manifest = store.manifest(run["kind"], run["name"], run["version"])
    _check_whole(store, manifest)
    return manifest


def write_here(shards: Sequence[Shard], encoder: Encoder, progress: Progress) -> Iterator[tuple[int, Entries]]:
    """Write shards in this process, one after the other."""
    del progress
    for number, shard in enumerate(shards):
        yield number, write_shard(shard, encoder)


def counts_of(index: TokenIndex) -> dict[str, Any]:
    """What a tokens artefact's manifest counts."""
    tokens, documents = ({side: of(side) for side in SIDES} for of in (index.tokens, index.documents))
    return {
        "documents": sum(documents.values()), "tokens": sum(tokens.values()),
        **{f"{side}_documents": documents[side] for side in SIDES},
        **{f"{side}_tokens": tokens[side] for side in SIDES},
        "shards": len(index.train), "dtype": index.dtype, "vocabulary": index.vocabulary,
    }  # fmt: skip


def _identity(
    store: Store, dataset: Manifest, encoder: Encoder, share: float
) -> tuple[str, dict[str, Any], dict[str, str]]:
    """The run's key, settings and inputs."""
    settings = {
        "tokenizer_sha256": encoder.sha256, "begin": encoder.begin, "end": encoder.end, "held_out": share,
        "forgotten": read_tombstones(store).key,
    }  # fmt: skip
    inputs = {"dataset": f"{dataset.name}@{dataset.version}", "tokenizer": encoder.source}
    return KEY(dataset=inputs["dataset"], config=settings), settings, inputs


def _check_whole(store: Store, manifest: Manifest) -> None:
    """Verify an artefact on a local store; on an object store that would read all of it."""
    try:
        if store.local:
            store.verify(manifest)
    except IntegrityError as error:
        raise IntegrityError(f"{error.message}: {remedy(store.artefact(manifest))}", **error.extras) from None
