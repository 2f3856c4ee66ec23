"""What a tokens artefact holds: the index of its shards, and opening one (ray-free, needs no tokenizer).

``tokens/<dataset>`` is made of shards with two sides each, ``train`` and ``held_out`` (``splits.is_held_out`` decides
by a document's id). A side is two plain ``.npy`` files without pickled objects: ``train-ids-00007.npy`` (uint16 where
the vocabulary fits, else uint32; every document with its begin and end token) and ``train-starts-00007.npy`` (uint64
[documents + 1]: document i is ``ids[starts[i]:starts[i + 1]]``). ``index.json`` counts them and has the sha256 of every
file, and of every mebibyte of it: who reads ranges from an object store can check what arrives.
"""

from __future__ import annotations

import hashlib
import json
import posixpath
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from cluster.core.errors import IncompatibleError, IntegrityError
from cluster.core.records import Manifest
from cluster.core.storage import Store

KIND = "tokens"
INDEX = "index.json"
FORMAT = 2
BLOCK_BYTES = 1 << 20
Side = Literal["train", "held_out"]
Bytes = bytes  # the class below has a field of that name
SIDES: tuple[Side, ...] = get_args(Side)


@dataclass(frozen=True)
class TokenFile:
    """One ``.npy`` file of one dimension: where its numbers begin (``offset`` bytes), and what its bytes hash to.

    ``blocks`` are the sha256 of each ``BLOCK_BYTES`` of the file, hexadecimal, one behind the other.
    """

    path: str
    bytes: int
    offset: int
    sha256: str
    blocks: str

    @classmethod
    def of(cls, path: str, body: Bytes, numbers: int) -> TokenFile:
        """The entry of a file whose last ``numbers`` bytes are its array."""
        blocks = (body[at : at + BLOCK_BYTES] for at in range(0, len(body), BLOCK_BYTES))
        hashes = "".join(hashlib.sha256(block).hexdigest() for block in blocks)
        return cls(path, len(body), len(body) - numbers, hashlib.sha256(body).hexdigest(), hashes)

    def block_sha256(self, number: int) -> str:
        """The hash of one block."""
        return self.blocks[64 * number : 64 * (number + 1)]


@dataclass(frozen=True)
class ShardSide:
    """One side of a shard; without documents it has no files. ``text_bytes`` is the size of the text (UTF-8) that its
    tokens stand for."""

    documents: int = 0
    tokens: int = 0
    text_bytes: int = 0
    ids: TokenFile | None = None
    starts: TokenFile | None = None

    @classmethod
    def from_dict(cls, row: dict[str, Any]) -> ShardSide:
        """The side out of plain JSON."""
        files = {name: TokenFile(**row[name]) if row[name] else None for name in ("ids", "starts")}
        return cls(row["documents"], row["tokens"], row["text_bytes"], **files)


@dataclass(frozen=True)
class TokenIndex:
    """``index.json``: how the numbers are to be read, and the shards of each side in their order.

    Attributes:
        dtype: ``uint16`` or ``uint32``.
        vocabulary: every id is smaller.
        begin, end: ids of the tokens that begin and end each document; they stand nowhere else.
        tokenizer_sha256: of tokenizer.json.
        dataset: ``NAME@VERSION`` the documents are from.
        share: of the documents held out.
    """

    dtype: str
    vocabulary: int
    begin: int
    end: int
    tokenizer_sha256: str
    dataset: str
    share: float
    train: tuple[ShardSide, ...]
    held_out: tuple[ShardSide, ...]

    def shards(self, side: Side) -> tuple[ShardSide, ...]:
        """The shards of one side that hold anything."""
        return tuple(shard for shard in getattr(self, side) if shard.tokens)

    def tokens(self, side: Side) -> int:
        """How many tokens one side has."""
        return sum(shard.tokens for shard in getattr(self, side))

    def text_bytes(self, side: Side) -> int:
        """How many bytes of text (UTF-8) one side's tokens stand for."""
        return sum(shard.text_bytes for shard in getattr(self, side))

    def documents(self, side: Side) -> int:
        """How many documents one side has."""
        return sum(shard.documents for shard in getattr(self, side))

    def to_json(self) -> bytes:
        """The file ``index.json``."""
        return json.dumps({"format": FORMAT, **asdict(self)}, indent=1, sort_keys=True).encode()

    @classmethod
    def from_dict(cls, row: dict[str, Any]) -> TokenIndex:
        """The index out of plain JSON."""
        rest = {name: value for name, value in row.items() if name != "format"}
        train, held_out = (tuple(ShardSide.from_dict(one) for one in row[side]) for side in SIDES)
        return cls(**{**rest, "train": train, "held_out": held_out})


def read_index(store: Store, made: Manifest, tokenizer_sha256: str = "") -> TokenIndex:
    """The index of a tokens artefact; the sizes of its files are compared, their bytes are not.

    Args:
        tokenizer_sha256: of the tokenizer that the reader works with, empty for any.

    Raises:
        IncompatibleError: it has another format, or is another tokenizer's.
        IntegrityError: the index or the size of a file does not match.
    """
    name, dataset = f"tokens {made.name}@{made.version}", made.inputs.get("dataset", made.name)
    again = f"make them again with `plinth data tokens --dataset {dataset} --tokenizer NAME`"
    known = {file.path: file for file in made.files}
    if INDEX not in known:
        raise IncompatibleError(f"{name} have no {INDEX}: an earlier version of plinth wrote them, without begin "
                                f"tokens and held-out side; {again}")  # fmt: skip
    folder = store.artefact(made)
    path = posixpath.join(folder, INDEX)
    try:
        body = store.read(path)
    except FileNotFoundError:
        body = b""
    if hashlib.sha256(body).hexdigest() != known[INDEX].sha256:
        raise IntegrityError(f"{path} is damaged or gone: {remedy(folder)}", path=path)
    row = json.loads(body)
    if row.get("format") != FORMAT:
        raise IncompatibleError(f"{name} are of format {row.get('format')!r}, this version reads {FORMAT}: {again}")
    index = TokenIndex.from_dict(row)
    if tokenizer_sha256 and index.tokenizer_sha256 != tokenizer_sha256:
        raise IncompatibleError(
            f"{name} were made with another tokenizer ({index.tokenizer_sha256[:12]}, this one is "
            f"{tokenizer_sha256[:12]}): {again}"
        )
    for shard in (*index.train, *index.held_out):
        for file in (shard.ids, shard.starts):
            if file is not None:
                check_size(store, posixpath.join(folder, file.path), file, folder)
    return index


def check_size(store: Store, path: str, file: TokenFile, folder: str) -> None:
    """Refuse a shard that is gone, or shorter or longer than it was written."""
    try:
        size = store.fs.size(path)
    except FileNotFoundError:
        size = None
    if size != file.bytes:
        found = "is missing" if size is None else f"has {size:,} bytes and was written with {file.bytes:,}"
        raise IntegrityError(f"the shard {path} {found}: {remedy(folder)}", path=path)


def remedy(folder: str) -> str:
    """What to do about tokens that are damaged."""
    return f"delete {folder} and run the same command again, it makes the tokens anew"
