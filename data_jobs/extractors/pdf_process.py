"""The PDF library (pdfium) in a process of its own: what a hostile file breaks there costs that file only.

``PdfProcess`` is the parent's side: it starts the child where there is none, hands it a file, and yields what comes
back. The child (``serve``) lives as long as its parent and reads one file after the other, each under a clock that ends
the process, whatever native code is doing; its memory is bounded. Both speak lines of JSON over pipes.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import math
import os
import resource
import signal
import subprocess
import sys
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data_jobs.extractors.protocol import Limits, UnreadableFileError

MEMORY_BYTES = 3 << 30
MAX_STREAM = 32 << 20
_STREAM = b"stream"
_PIECE = 1 << 20
_MARK = b"%PDF-"
_MARK_WITHIN = 1024  # readers look for the mark in so many bytes; what is further in is cut free of what is before it
# All that the child gets of the environment: whoever takes it over by a file shall find no credentials there.
_ENVIRONMENT = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH")
_HIDDEN_WIDGET = 0x02 | 0x20  # annotation flags: hidden, not shown on screens
_PASSWORD_FIELD = 1 << 13
_OFF = ("", "Off")


class PdfProcess:
    """One child for this process, started when the first PDF comes and again after it ended."""

    def __init__(self) -> None:
        self._child: subprocess.Popen[bytes] | None = None
        self._owner = 0
        self._turn = threading.Lock()

    def read(self, data: bytes, limits: Limits) -> Iterator[dict[str, Any]]:
        """What the child says of one file: first title, pages and attachments, then each page.

        Whoever stops before the end ends the child.

        Raises:
            UnreadableFileError: ``damaged``, ``encrypted``, ``empty``, ``too_many_pages``, ``too_slow``, where needed
                after some pages.
        """
        with self._turn:
            child = self._running()
            done = False
            try:
                head = {"size": len(data), "seconds": limits.seconds, "pages": limits.pages}
                yield from self._answers(child, json.dumps(head).encode() + b"\n" + data)
                done = True
            except UnreadableFileError:
                done = True  # the child said so and waits for the next file, or it has ended already
                raise
            finally:
                if not done:
                    self._end()

    def _answers(self, child: subprocess.Popen[bytes], question: bytes) -> Iterator[dict[str, Any]]:
        assert child.stdin is not None  # noqa: S101 (opened as a pipe below)
        assert child.stdout is not None  # noqa: S101
        with contextlib.suppress(OSError):  # it ended before it read the file; what it says below is nothing
            child.stdin.write(question)
            child.stdin.flush()
        while line := child.stdout.readline():
            answer = json.loads(line)
            if "end" in answer:
                return
            if "error" in answer:
                raise UnreadableFileError(*answer["error"])
            yield answer
        self._end()
        if child.returncode == -signal.SIGALRM:
            raise UnreadableFileError("too_slow", "the PDF library took too long and was ended")
        raise UnreadableFileError("damaged", f"the PDF library ended with {child.returncode}")

    def _running(self) -> subprocess.Popen[bytes]:
        if self._child is None or self._child.poll() is not None or self._owner != os.getpid():
            code = "from data_jobs.extractors.pdf_process import serve; serve()"
            self._child = subprocess.Popen(  # noqa: S603 (this Python, a fixed program)
                [sys.executable, "-c", code], cwd=Path(__file__).resolve().parents[2],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                env={name: os.environ[name] for name in _ENVIRONMENT if name in os.environ},
            )  # fmt: skip
            self._owner = os.getpid()
        return self._child

    def _end(self) -> None:
        if self._child is not None and self._owner == os.getpid():
            self._child.kill()
            self._child.wait()
            for pipe in (self._child.stdin, self._child.stdout):
                if pipe is not None:
                    with contextlib.suppress(OSError):  # what was not sent any more
                        pipe.close()
        self._child = None


# -- the child ---------------------------------------------------------------------------------------------------------
def serve() -> None:
    """Read files from standard input until it is closed; the answers go to what standard output was."""
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # nothing that a library prints may come between the answers
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    while line := sys.stdin.buffer.readline():
        head = json.loads(line)
        data = sys.stdin.buffer.read(head["size"])
        signal.alarm(max(1, math.ceil(head["seconds"])))
        try:
            for answer in answers(data, head["pages"]):
                out.write(json.dumps(answer).encode() + b"\n")
                out.flush()
            last: dict[str, Any] = {"end": True}
        except UnreadableFileError as error:
            last = {"error": list(error.args)}
        signal.alarm(0)
        out.write(json.dumps(last).encode() + b"\n")
        out.flush()


def answers(data: bytes, most_pages: int) -> Iterator[dict[str, Any]]:
    """Title, number of pages and attachments; then of each page its text, form values, notes, and what was left out.

    Raises:
        UnreadableFileError: ``damaged``, ``encrypted``, ``empty``, ``too_many_pages``, ``bomb``.
    """
    import pypdfium2
    from pypdfium2 import raw

    at = data.find(_MARK)
    if at < 0:
        raise UnreadableFileError("damaged", "not a PDF: there is no %PDF- in it")
    check_streams(data)
    try:
        document = pypdfium2.PdfDocument(data if at + len(_MARK) <= _MARK_WITHIN else data[at:])
    except pypdfium2.PdfiumError as error:
        if getattr(error, "err_code", None) in (raw.FPDF_ERR_PASSWORD, raw.FPDF_ERR_SECURITY):
            raise UnreadableFileError("encrypted", "it needs a password") from None
        raise UnreadableFileError("damaged", f"PDF: {error}") from None
    count = len(document)
    if not count:
        raise UnreadableFileError("empty", "no pages")
    if count > most_pages:
        raise UnreadableFileError("too_many_pages", f"{count} pages; the limit is {most_pages}")
    if document.get_formtype() != raw.FORMTYPE_NONE:
        document.init_forms()
    title = document.get_metadata_value("Title")
    yield {"title": title, "pages": count, "attachments": max(0, raw.FPDFDoc_GetAttachmentCount(document))}
    for index in range(count):
        try:
            yield _page(document, index)
        except pypdfium2.PdfiumError as error:
            yield {"damaged": str(error)}


def check_streams(data: bytes) -> None:
    """Refuse a file one of whose streams unpacks to more than the drawing of a page has a use for.

    Raises:
        UnreadableFileError: ``bomb``.
    """
    at = data.find(_STREAM)
    while at >= 0:
        about = data[max(0, at - 400) : at]
        start = at + len(_STREAM)
        at = data.find(_STREAM, start)
        if b"/FlateDecode" not in about[about.rfind(b"obj") + 1 :] or b"/Image" in about:  # pictures are not unpacked
            continue
        if data[start : start + 2] == b"\r\n":
            start += 1
        packed, unpacker, size = data[start + 1 : at if at >= 0 else len(data)], zlib.decompressobj(), 0
        with contextlib.suppress(zlib.error):  # what is damaged here, the library may mend
            while packed and not unpacker.eof:
                size += len(unpacker.decompress(packed, _PIECE))
                packed = unpacker.unconsumed_tail
                if size > MAX_STREAM:
                    raise UnreadableFileError("bomb", f"a stream of over {MAX_STREAM} bytes")


def _page(document: Any, index: int) -> dict[str, Any]:
    from pypdfium2 import raw

    page = document[index]
    text_page = page.get_textpage()
    text = text_page.get_text_range()
    found: dict[str, Any] = {"text": text, "values": [], "notes": [], "hidden": 0, "comments": 0}
    for number in range(raw.FPDFPage_GetAnnotCount(page)):
        note = raw.FPDFPage_GetAnnot(page, number)
        if note:
            _annotation(document, note, found)
            raw.FPDFPage_CloseAnnot(note)
    found["images"] = sum(1 for _ in page.get_objects(filter=[raw.FPDF_PAGEOBJ_IMAGE], max_depth=8))
    text_page.close()
    page.close()
    return found


def _annotation(document: Any, note: Any, found: dict[str, Any]) -> None:
    """Add what an annotation shows: a form field's value beside its name, text that was typed onto the page."""
    from pypdfium2 import raw

    kind, flags = raw.FPDFAnnot_GetSubtype(note), raw.FPDFAnnot_GetFlags(note)
    if kind == raw.FPDF_ANNOT_WIDGET and document.formenv is not None:
        form = document.formenv

        def value(read: Any) -> str:
            return _wide(lambda buffer, size: read(form, note, buffer, size))

        text = value(raw.FPDFAnnot_GetFormFieldValue).replace("\r\n", "\n").replace("\r", "\n").strip()
        secret = raw.FPDFAnnot_GetFormFieldFlags(form, note) & _PASSWORD_FIELD
        field = raw.FPDFAnnot_GetFormFieldType(form, note)
        if text in _OFF or field == raw.FPDF_FORMFIELD_PUSHBUTTON:
            return
        if flags & _HIDDEN_WIDGET or (secret and field == raw.FPDF_FORMFIELD_TEXTFIELD):
            found["hidden"] += 1
            return
        name = value(raw.FPDFAnnot_GetFormFieldAlternateName) or value(raw.FPDFAnnot_GetFormFieldName)
        if [name, text] not in found["values"]:  # each button of a group has the group's value
            found["values"].append([name, text])
    elif kind in (raw.FPDF_ANNOT_FREETEXT, raw.FPDF_ANNOT_TEXT) and not flags & _HIDDEN_WIDGET:
        text = _wide(lambda buffer, size: raw.FPDFAnnot_GetStringValue(note, b"Contents", buffer, size)).strip()
        if text and kind == raw.FPDF_ANNOT_FREETEXT:
            found["notes"].append(text.replace("\r\n", "\n").replace("\r", "\n"))
        elif text:
            found["comments"] += 1


def _wide(read: Any) -> str:
    """The string that a pdfium function writes into a buffer of UTF-16."""
    from pypdfium2 import raw

    size = read(None, 0)
    if size <= 2:
        return ""
    buffer = ctypes.create_string_buffer(size)
    read(ctypes.cast(buffer, ctypes.POINTER(raw.FPDF_WCHAR)), size)
    return buffer.raw[: size - 2].decode("utf-16-le", "replace")
