"""Documents to token shards: the last stage of preparing a corpus for pretraining (ray-free).

A shard is one documents file of a dataset as one packed stream of token ids, every document followed by the end token,
in two plain ``.npy`` files (no pickle): ``tokens-00007.npy`` (uint16 where the vocabulary fits, else uint32; [tokens])
and ``starts-00007.npy`` (uint64 [documents + 1]: document i is ``tokens[starts[i]:starts[i + 1]]``, its end token
included). What looks like a special token in a document is encoded as its letters, so that the end token stands at the
end of documents only. Readers map them into memory and cut windows as they like; the same documents and tokenizer give
the same bytes.
"""

from __future__ import annotations

import functools
import io
import json
import os
import posixpath
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cluster.core.errors import BadInputError
from cluster.core.records import Manifest
from cluster.core.storage import Store
from data_jobs.corpus.dataset import remembered
from data_jobs.text.special_tokens import reads_as_text

if TYPE_CHECKING:
    from tokenizers import Tokenizer

TOKENIZERS = "tokenizers"
FILE = "tokenizer.json"
CONFIG = "tokenizer_config.json"
# What ends a document, by the names tokenizers use for it; `tokenizer_config.json` has the first word.
END_TOKENS = ("<|eos|>", "<|endoftext|>", "</s>", "<|end_of_text|>", "<eos>", "[SEP]")
# Documents are encoded this many at a time, so that a large file does not fill the memory.
BATCH = 256


@dataclass(frozen=True)
class Encoder:
    """A tokenizer as shards need it: ``tokenizer.json`` as text and the id that ends a document."""

    source: str
    json: str
    end: int
    vocabulary: int

    @property
    def dtype(self) -> type[np.uint16] | type[np.uint32]:
        """The smallest type that holds every id of the vocabulary."""
        return np.uint16 if self.vocabulary <= 1 << 16 else np.uint32

    def load(self) -> Tokenizer:
        """The tokenizer itself, ready to encode: it neither pads nor truncates, and reads special tokens as text."""
        return _loaded(self.json)


@functools.lru_cache(maxsize=1)  # one per process: each one loaded costs 4 MB that never come back (tokenizers 0.23)
def _loaded(tokenizer_json: str) -> Tokenizer:
    # A worker has one core: the library's thread pool would take those of its neighbours.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
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
    """An encoder out of the bytes of ``tokenizer.json`` and, for the end token, ``tokenizer_config.json``.

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
        said = json.loads(config).get("eos_token")
    except (ValueError, AttributeError) as error:
        raise BadInputError(f"{source}: tokenizer_config.json cannot be read: {error}") from error
    named = said.get("content") if isinstance(said, dict) else said
    for token in (named, *END_TOKENS):
        end = tokenizer.token_to_id(token) if isinstance(token, str) else None
        if end is not None:
            return Encoder(source, text, end, tokenizer.get_vocab_size(with_added_tokens=True))
    known = " ".join(END_TOKENS)
    raise BadInputError(f"{source}: no token ends a document: {CONFIG} names no eos_token, and none is one of {known}")


def encode(
    texts: Sequence[str], encoder: Encoder, tokenizer: Tokenizer
) -> tuple[npt.NDArray[Any], npt.NDArray[np.uint64]]:
    """(tokens, starts) of documents, see the module's docstring."""
    parts: list[npt.NDArray[Any]] = []
    lengths: list[int] = []
    for at in range(0, len(texts), BATCH):
        for one in tokenizer.encode_batch(list(texts[at : at + BATCH]), add_special_tokens=False):
            parts.append(np.asarray([*one.ids, encoder.end], dtype=encoder.dtype))
            lengths.append(len(parts[-1]))
    tokens = np.concatenate(parts) if parts else np.zeros(0, dtype=encoder.dtype)
    return tokens, np.concatenate([[0], np.cumsum(lengths, dtype=np.uint64)]).astype(np.uint64)


def npy_bytes(array: npt.NDArray[Any]) -> bytes:
    """An array as the bytes of a ``.npy`` file without pickled objects."""
    sink = io.BytesIO()
    np.save(sink, array, allow_pickle=False)
    return sink.getvalue()


# -- one documents file ------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Shard:
    """Shard ``index``: the documents file at ``path``, written below ``output``."""

    index: int
    store: str
    path: str
    output: str

    @property
    def tokens_path(self) -> str:
        """Where the stream of token ids goes."""
        return posixpath.join(self.output, f"tokens-{self.index:05d}.npy")

    @property
    def starts_path(self) -> str:
        """Where the documents' first positions in the stream go."""
        return posixpath.join(self.output, f"starts-{self.index:05d}.npy")


def shards_of(store: Store, dataset: Manifest, output: str) -> list[Shard]:
    """The shards of a dataset, one per documents file in the order of their names, to be written below
    ``output``.
    """
    folder = store.artefact(dataset)
    names = sorted(f.path for f in dataset.files if f.path.startswith("documents-"))
    return [Shard(n, store.uri, posixpath.join(folder, name), output) for n, name in enumerate(names)]


def write_shard(shard: Shard, encoder: Encoder) -> dict[str, int]:
    """Tokenise one documents file but what was forgotten; ``tokens-*`` is written last: a shard with it is whole."""
    store = Store(shard.store)
    texts = [document.text for document in remembered(store, shard.path) if document.text]
    tokens, starts = encode(texts, encoder, encoder.load())
    store.write(shard.starts_path, npy_bytes(starts))
    store.write(shard.tokens_path, npy_bytes(tokens))
    return {"documents": len(texts), "tokens": len(tokens)}


def finished(shard: Shard) -> dict[str, int] | None:
    """The counts of a shard an earlier run finished, or None."""
    store = Store(shard.store)
    if not store.exists(shard.tokens_path) or not store.exists(shard.starts_path):
        return None
    starts = np.load(io.BytesIO(store.read(shard.starts_path)), allow_pickle=False)
    return {"documents": len(starts) - 1, "tokens": int(starts[-1])}
