"""Bodies of HTTP responses as they were sent: transfer and content encodings undone under a budget (RFC 9110, 9112).

Servers and crawlers say more than is true: what is said to be encoded and is not, is taken as it is.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from typing import Any

from data_jobs.extractors.protocol import Budget, UnreadableFileError, parsing

_PIECE = 1 << 16
_SIZE_LINE = 1_000  # the longest line that says how large a chunk is
_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"


def decoded_body(body: bytes, headers: Any, budget: Budget) -> bytes:
    """The content of a response; ``headers`` is what has ``get_header``, or None.

    Raises:
        UnreadableFileError: ``damaged``, over the budget, or an encoding that is not known (``unsupported_kind``).
    """
    if headers is None:
        return body
    if "chunked" in (headers.get_header("Transfer-Encoding") or "").lower():
        body = dechunked(body)
    encodings = [name.strip().lower() for name in (headers.get_header("Content-Encoding") or "").split(",")]
    for name in reversed([name for name in encodings if name and name != "identity"]):
        decode = _DECODERS.get(name)
        if decode is None:
            raise UnreadableFileError("unsupported_kind", f"content encoding {name[:40]}")
        with parsing(name):
            body = decode(body, budget)
    return body


def dechunked(body: bytes) -> bytes:
    """A chunked body put together; a body that is not chunked as it is, one that is cut off as far as it goes."""
    pieces: list[bytes] = []
    at = 0
    while at < len(body):
        end = body.find(b"\r\n", at, at + _SIZE_LINE)
        size = body[at:end].partition(b";")[0].strip() if end >= 0 else b""
        if not size or not all(c in b"0123456789abcdefABCDEF" for c in size):
            return b"".join(pieces) if pieces else body
        length = int(size, 16)
        if not length:
            break
        pieces.append(body[end + 2 : end + 2 + length])
        at = end + 2 + length + 2
    return b"".join(pieces)


def gunzip(body: bytes, budget: Budget) -> bytes:
    """All members of a gzip file, one after the other; bytes behind the last that are none are left out.

    Raises:
        zlib.error: it is damaged.
        UnreadableFileError: over the budget.
    """
    pieces: list[bytes] = []
    while body.startswith(_GZIP):
        unpacker = zlib.decompressobj(wbits=31)
        pieces += _inflated(unpacker, body, budget)
        body = unpacker.unused_data
    return b"".join(pieces)


def _inflated(unpacker: Any, body: bytes, budget: Budget) -> Iterator[bytes]:
    piece = unpacker.decompress(body, _PIECE)
    while piece:
        budget.take(len(piece))
        yield piece
        piece = unpacker.decompress(unpacker.unconsumed_tail, _PIECE) if not unpacker.eof else b""


def _gzip(body: bytes, budget: Budget) -> bytes:
    return gunzip(body, budget) if body.startswith(_GZIP) else body


def _deflate(body: bytes, budget: Budget) -> bytes:
    """Either form that servers call deflate: with the header of zlib, or without."""
    for bits in (zlib.MAX_WBITS, -zlib.MAX_WBITS):
        try:
            return b"".join(_inflated(zlib.decompressobj(wbits=bits), body, budget))
        except zlib.error:
            continue
    return body


def _brotli(body: bytes, budget: Budget) -> bytes:
    import brotli

    unpacker, rest = brotli.Decompressor(), body
    pieces: list[bytes] = []
    try:
        while not unpacker.is_finished():
            piece = unpacker.process(rest, output_buffer_limit=_PIECE)
            rest = b""
            if not piece and unpacker.can_accept_more_data():
                break
            budget.take(len(piece))
            pieces.append(piece)
    except brotli.error as error:
        if body.lstrip()[:1] == b"<":  # a page that says it is packed
            return body
        raise UnreadableFileError("damaged", f"brotli: {error}") from None
    return b"".join(pieces)


def _zstd(body: bytes, budget: Budget) -> bytes:
    import zstandard

    if not body.startswith(_ZSTD):
        return body
    pieces = []
    try:
        with zstandard.ZstdDecompressor(max_window_size=1 << 27).stream_reader(body, read_across_frames=True) as stream:
            while piece := stream.read(_PIECE):
                budget.take(len(piece))
                pieces.append(piece)
    except zstandard.ZstdError as error:
        raise UnreadableFileError("damaged", f"zstd: {error}") from None
    return b"".join(pieces)


_DECODERS: dict[str, Callable[[bytes, Budget], bytes]] = {
    "gzip": _gzip, "x-gzip": _gzip, "deflate": _deflate, "br": _brotli, "zstd": _zstd,
}  # fmt: skip
