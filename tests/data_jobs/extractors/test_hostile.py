"""Damaged and hostile files of every format: a reason each, never a traceback, never a silent drop."""

from __future__ import annotations

import gzip
import io
import random
import subprocess
import sys
import tarfile
import time
import tracemalloc
import zipfile
import zlib
from pathlib import Path

import pytest

from cluster.core.records import Document
from data_jobs.extractors.protocol import EXTRACT_REASONS, Limits
from tests.data_jobs.extractors import made
from tests.data_jobs.extractors.made import WORDS, documents, read, reasons

FORMATS = dict(made.every_format()) | {"a.png": made.png}
OTHERS = {"captions.jsonl": b'{"file": "a.png", "caption": "four grey pixels"}'}


@pytest.mark.parametrize("name", FORMATS)
def test_truncated_files(name: str) -> None:
    data = FORMATS[name]()
    for share in (0.02, 0.3, 0.5, 0.9, 0.99):
        found = read(name, data[: max(1, int(len(data) * share))], others=OTHERS)
        assert found, share
        assert set(reasons(found).values()) <= set(EXTRACT_REASONS)


@pytest.mark.parametrize("name", FORMATS)
def test_flipped_bits(name: str) -> None:
    data, dice = FORMATS[name](), random.Random(name)
    for _ in range(25):
        broken = bytearray(data)
        broken[dice.randrange(len(broken))] ^= 1 << dice.randrange(8)
        found = read(name, bytes(broken), others=OTHERS)
        assert found
        assert set(reasons(found).values()) <= set(EXTRACT_REASONS)


@pytest.mark.parametrize("name", FORMATS)
def test_the_content_of_another_format(name: str) -> None:
    """A wrong suffix: text formats may read each other's bytes as text; binary ones refuse what is not theirs."""
    for other, make in FORMATS.items():
        found = read(name, make(), others=OTHERS)
        assert found
        assert set(reasons(found).values()) <= set(EXTRACT_REASONS)
        binary = (".pdf", ".docx", ".parquet", ".png", ".warc", ".tar", ".zip")
        if name.endswith(binary) and not other.endswith((name[1:], ".zip", ".docx", ".gz", ".tgz", ".tar")):
            assert not documents(found), other


@pytest.mark.parametrize(
    "name", [n for n in FORMATS if n.endswith((".zip", ".tar.gz", ".parquet", ".warc.gz", ".png"))]
)
def test_formats_with_checksums_never_give_wrong_text(name: str) -> None:
    data, dice = FORMATS[name](), random.Random(name)
    good = {d.text for d in documents(read(name, data, others=OTHERS))}
    for _ in range(40):
        broken = bytearray(data)
        broken[dice.randrange(len(broken))] ^= 1 << dice.randrange(8)
        assert {d.text for d in documents(read(name, bytes(broken), others=OTHERS))} <= good


# -- bombs -------------------------------------------------------------------------------------------------------------
def zeros(megabytes: int) -> bytes:
    packer, piece = zlib.compressobj(9, zlib.DEFLATED, 31), b" " * (1 << 20)
    return b"".join(packer.compress(piece) for _ in range(megabytes)) + packer.flush()


def big_docx() -> bytes:
    source, sink = zipfile.ZipFile(io.BytesIO(made.word())), io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as package:
        for name in source.namelist():
            data = source.read(name)
            package.writestr(name, data + b" " * (80 << 20) if name == "word/document.xml" else data)
    return sink.getvalue()


def entities() -> bytes:
    source, sink = zipfile.ZipFile(io.BytesIO(made.word())), io.BytesIO()
    levels = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 10))
    bomb = f'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY e0 "lollol">{levels}]><x>&e9;</x>'
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as package:
        for name in source.namelist():
            package.writestr(name, bomb if name == "word/document.xml" else source.read(name))
    return sink.getvalue()


def repeated() -> bytes:
    """One value of a megabyte, a thousand times: a dictionary page makes it small."""
    return made.parquet([{"text": WORDS * 3_000}] * 400, group=400, compression="zstd")


BOMBS = {
    "a.zip": lambda: made.zipped([("a.txt", b" " * (80 << 20))]),
    "a.tar.gz": lambda: made.tarred([("a.txt", b" " * (80 << 20))]),
    "b.tgz": lambda: zeros(80),
    "a.docx": big_docx,
    "b.docx": entities,
    "a.parquet": repeated,
    "a.warc.gz": lambda: made.warc([("https://a.example/", "200 OK", "text/html", b" " * (80 << 20))]),
    "a.pdf": lambda: made.pdf(["x"], content=b"BT /F1 12 Tf (" + b" " * (80 << 20) + b") Tj ET"),
    "a.html": lambda: b"<div>" * 100_000 + b"deep",
    "a.ipynb": lambda: b"[" * 200_000,
    "a.jsonl": lambda: b'{"text": ' + b"[" * 200_000,
    "a.png": lambda: made.png(60_000, 60_000),
}


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_are_refused_soon_and_without_their_size_in_memory(name: str) -> None:
    data, limits = BOMBS[name](), Limits(file_bytes=4 << 20, text_bytes=4 << 20)
    tracemalloc.start()
    started = time.monotonic()
    found = read(name, data, limits, others=OTHERS)
    seconds = time.monotonic() - started
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert not documents(found)
    assert reasons(found)
    assert set(reasons(found).values()) <= {
        "bomb", "too_much_text", "too_large", "damaged", "bad_json", "no_text", "not_a_notebook", "empty_page",
    }  # fmt: skip
    assert seconds < 5
    assert peak < 56 << 20  # of 80 MiB and more


def test_text_and_time_limits_end_a_file_with_its_rest_named() -> None:
    data = b"text\n" + b"".join(b"row number %d of many\n" % n for n in range(1000))
    found = read("a.csv", data, Limits(text_bytes=1000))
    assert 10 < len(documents(found)) < 100
    assert reasons(found) == {"rest": "too_much_text"}
    assert reasons(read("a.csv", data, Limits(rows=10))) == {"rest": "too_many_rows"}
    assert "too_slow" in reasons(read("a.csv", data, Limits(seconds=0))).values()


# -- archives (THREATS T17) --------------------------------------------------------------------------------------------
HOSTILE_NAMES = [
    "../x.md", "a/../../x.md", "/etc/x.md", "..\\x.md", "C:\\x.md", "C:/x.md", "a//x.md", "./../x.md", "a/./x.md",
    "x\n.md", "~/x.md", "~root/x.md", "\\\\host\\x.md", "a" * 2000 + ".md",
]  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_entries_that_would_leave_the_folder_are_refused_one_by_one(name: str) -> None:
    entries = [("good.md", b"# Good\n\nGood words."), (name, b"# Bad\n\nBad words.")]
    for archive, data in (("a.zip", made.zipped(entries)), ("a.tar", made.tarred(entries, "w"))):
        found = read(archive, data)
        assert [d.id for d in documents(found)] == [f"{archive}/good.md"]
        assert list(reasons(found).values()) == ["bad_name"]


def test_links_devices_duplicates_and_nested_archives_are_refused() -> None:
    odd = []
    for name, kind in (("link.md", tarfile.SYMTYPE), ("hard.md", tarfile.LNKTYPE), ("dev.md", tarfile.CHRTYPE),
                       ("pipe.md", tarfile.FIFOTYPE)):  # fmt: skip
        info = tarfile.TarInfo(name)
        info.type, info.linkname = kind, "good.md"
        odd.append(info)
    good = ("good.md", b"# Good\n\nGood words.")
    plain = [
        good,
        ("good.md", b"# Other\n\nOther words."),
        ("in.zip", made.zipped([good])),
        ("x.exe", b"MZ"),
        ("e.md", b""),
    ]
    found = read("a.tar.gz", made.tarred(plain, also=odd))
    assert [d.title for d in documents(found)] == ["Good"]
    assert reasons(found) == {
        "good.md": "duplicate", "in.zip": "nested_archive", "x.exe": "unsupported_kind", "e.md": "empty",
        "link.md": "link", "hard.md": "link", "dev.md": "device", "pipe.md": "device",
    }  # fmt: skip
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        link = zipfile.ZipInfo("link.md")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "../../etc/passwd")
        archive.writestr("good.md", "# Good")
    assert reasons(read("a.zip", sink.getvalue())) == {"link.md": "link"}


def test_an_archive_in_another_format_is_not_opened_by_guess() -> None:
    assert reasons(read("a.gz", gzip.compress(b"text"))) == {"": "unsupported_kind"}
    assert reasons(read("a.zip", made.zipped([]))) == {"": "empty"}
    assert reasons(read("a.zip", b"PK\3\4 nothing")) == {"": "damaged"}


def test_too_many_entries() -> None:
    data = made.zipped([(f"{n}.md", b"# Some words") for n in range(9)])
    found = read("a.zip", data, Limits(entries=5))
    assert sum(isinstance(f, Document) for f in found) == 5
    assert reasons(found) == {"rest": "too_many_entries"}


def test_a_web_archive_goes_on_after_a_damaged_record() -> None:
    parts = [made.warc([(f"https://a.example/{n}", "200 OK", "text/html", made.page(title=f"P{n}"))]) for n in range(3)]
    middle = bytearray(parts[1])
    middle[len(middle) // 2] ^= 0xFF
    found = read("a.warc.gz", parts[0] + bytes(middle) + parts[2])
    assert [d.title for d in documents(found)] == ["P0", "P2"]
    assert reasons(found)


@pytest.mark.process
def test_damaged_parquet_footers_do_not_end_the_process() -> None:
    """pyarrow's own accessors of column metadata abort on some; in a process of its own, so that this would be seen."""
    code = (
        "import random\n"
        "from tests.data_jobs.extractors import made\n"
        "dice = random.Random(3)\n"
        "data = made.parquet([{'id': f'r{n}', 'text': f'{made.WORDS} {n}'} for n in range(6)])\n"
        "for _ in range(3000):\n"
        "    broken = bytearray(data)\n"
        "    for _ in range(dice.choice([1, 1, 2, 5])):\n"
        "        broken[dice.randrange(len(broken) - 800, len(broken))] ^= 1 << dice.randrange(8)\n"
        "    assert made.read('a.parquet', bytes(broken))\n"
    )
    root = Path(__file__).resolve().parents[3]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
