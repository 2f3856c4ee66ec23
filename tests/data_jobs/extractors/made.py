"""Small real files of every format, made with the formats' own libraries."""

from __future__ import annotations

import hashlib
import io
import json
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import docx
import pyarrow as pa
import pyarrow.parquet as pq
import pypdf
from pypdf.generic import DecodedStreamObject, DictionaryObject, NameObject, NumberObject
from warcio.statusandheaders import StatusAndHeaders
from warcio.warcwriter import WARCWriter

from cluster.core.records import Document, Quarantined
from data_jobs.extractors.protocol import Limits, Origin, UnreadableFileError
from data_jobs.extractors.registry import extract

WORDS = "The quick brown fox jumps over the lazy dog while seven wizards boil their kettles slowly."


def read(
    name: str, data: bytes, limits: Limits | None = None, others: dict[str, bytes] | None = None
) -> list[Document | Quarantined]:
    """Everything the extractor of ``name`` makes of ``data``."""

    def neighbour(path: str) -> bytes:
        if path not in (others or {}):
            raise UnreadableFileError("unreadable", path)
        return (others or {})[path]

    item = Origin(name, "made", hashlib.sha256(data).hexdigest(), len(data), neighbour)
    return list(extract(data, item, limits or Limits()))


def documents(found: Sequence[Document | Quarantined]) -> list[Document]:
    return [f for f in found if isinstance(f, Document)]


def reasons(found: Sequence[Document | Quarantined]) -> dict[str, str]:
    return {f.record: f.reason for f in found if isinstance(f, Quarantined)}


def pdf(pages: Sequence[str | bytes], title: str = "", password: str = "", content: bytes = b"") -> bytes:
    """A page per text; bytes instead of text are the pixels of a picture."""
    writer = pypdf.PdfWriter()
    font = DictionaryObject(
        {
            NameObject(k): NameObject(v)
            for k, v in (("/Type", "/Font"), ("/Subtype", "/Type1"), ("/BaseFont", "/Helvetica"))
        }
    )
    for text in pages:
        page = writer.add_blank_page(612, 792)
        stream, resources = DecodedStreamObject(), DictionaryObject()
        if isinstance(text, bytes):
            picture = DecodedStreamObject()
            picture.set_data(text)
            picture.update(
                {
                    NameObject("/Type"): NameObject("/XObject"), NameObject("/Subtype"): NameObject("/Image"),
                    NameObject("/Width"): NumberObject(1), NameObject("/Height"): NumberObject(len(text)),
                    NameObject("/ColorSpace"): NameObject("/DeviceGray"),
                    NameObject("/BitsPerComponent"): NumberObject(8),
                }
            )  # fmt: skip
            resources[NameObject("/XObject")] = DictionaryObject({NameObject("/I"): writer._add_object(picture)})
            stream.set_data(b"/I Do")
        else:
            resources[NameObject("/Font")] = DictionaryObject({NameObject("/F1"): font})
            stream.set_data(
                content or b"BT /F1 12 Tf 72 720 Td (" + text.encode("latin-1") + b") Tj ET" if text else b""
            )
        page[NameObject("/Resources")] = resources
        page[NameObject("/Contents")] = writer._add_object(stream.flate_encode())
    if title:
        writer.add_metadata({"/Title": title})
    if password:
        writer.encrypt(password, algorithm="AES-256")
    sink = io.BytesIO()
    writer.write(sink)
    return sink.getvalue()


def word(title: str = "") -> bytes:
    document = docx.Document()
    document.core_properties.title = title
    document.add_heading("Boiling kettles", level=1)
    document.add_paragraph(WORDS)
    document.add_heading("Numbers", level=2)
    table = document.add_table(rows=2, cols=2)
    for row, cells in enumerate((("kettle", "litres"), ("small", "0.8"))):
        for column, text in enumerate(cells):
            table.cell(row, column).text = text
    document.add_paragraph("After the table.")
    sink = io.BytesIO()
    document.save(sink)
    return sink.getvalue()


def notebook(**changes: Any) -> bytes:
    cells = [
        {"cell_type": "markdown", "source": ["# Kettles\n", "How they boil."]},
        {"cell_type": "code", "source": "boil(kettle)", "outputs": [{"text": ["Boiled in 3 minutes"]}]},
    ]
    return json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, **changes}).encode()


def page(body: str = f"<p>{WORDS}</p>", title: str = "Kettles") -> bytes:
    return (
        f"<!doctype html><html><head><title>{title}</title><script>evil()</script><style>p{{}}</style></head>"
        f"<body><nav><a href='/'>home</a></nav><article><h1>{title}</h1>{body}</article></body></html>"
    ).encode()


def parquet(rows: Sequence[dict[str, Any]], group: int = 2, **options: Any) -> bytes:
    sink = io.BytesIO()
    pq.write_table(
        pa.Table.from_pylist(list(rows)), sink, row_group_size=group, **{"write_page_checksum": True, **options}
    )
    return sink.getvalue()


def warc(pages: Sequence[tuple[str, str, str, bytes]], packed: bool = True) -> bytes:
    """``(url, status, content type, body)`` of each response, a request before the first."""
    sink = io.BytesIO()
    writer = WARCWriter(sink, gzip=packed)
    writer.write_record(writer.create_warcinfo_record("made", {"software": "test"}))
    for url, status, kind, body in pages:
        headers = StatusAndHeaders(status, [("Content-Type", kind)], protocol="HTTP/1.1")
        writer.write_record(writer.create_warc_record(url, "response", payload=io.BytesIO(body), http_headers=headers))
    return sink.getvalue()


def png(width: int = 2, height: int = 2) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + b"\x7f" * (3 * min(width, 64)) for _ in range(min(height, 64)))
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def zipped(entries: Sequence[tuple[str, bytes]]) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in entries:
            archive.writestr(name, data)
    return sink.getvalue()


def tarred(entries: Sequence[tuple[str, bytes]], mode: str = "w:gz", also: Sequence[tarfile.TarInfo] = ()) -> bytes:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode=mode) as archive:  # type: ignore[call-overload]
        for name, data in entries:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        for info in also:
            archive.addfile(info)
    return sink.getvalue()


def every_format() -> Iterator[tuple[str, Callable[[], bytes]]]:
    rows = [{"id": f"r{n}", "text": f"{WORDS} {n}"} for n in range(6)]
    yield "a.md", lambda: b"# Title\n\nText of the file."
    yield "a.jsonl", lambda: b'{"text": "one"}\n{"text": "two"}\n'
    yield "a.html", page
    yield "a.pdf", lambda: pdf(["First page here", "Second page here"])
    yield "a.docx", word
    yield "a.ipynb", notebook
    yield "a.csv", lambda: b"id,text\n1,one two three\n2,four five six\n"
    yield "a.parquet", lambda: parquet(rows)
    yield "a.warc", lambda: warc([("https://a.example/", "200 OK", "text/html", page())], packed=False)
    yield "a.warc.gz", lambda: warc([("https://a.example/", "200 OK", "text/html", page())])
    yield "a.zip", lambda: zipped([("in/x.md", b"# X\n\nOne two three."), ("y.txt", b"Four five six.")])
    yield "a.tar", lambda: tarred([("x.md", b"# X\n\nOne two three.")], "w")
    yield "a.tar.gz", lambda: tarred([("x.md", b"# X\n\nOne two three.")])
    yield "a.tgz", lambda: tarred([("x.md", b"# X\n\nOne two three.")])
