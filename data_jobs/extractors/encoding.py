"""Text out of bytes whose encoding nobody declared: UTF-8 if it is, else what can be told with confidence, else not.

A wrong guess is worse than a quarantined file: it puts words nobody wrote into a corpus. So guesses are limited to
encodings in common use, need a text long enough to recognise a language by, and are recorded as a step.
"""

from __future__ import annotations

import codecs
import re

from data_jobs.extractors.protocol import Skipped, UnreadableFileError

# Two measures of charset-normalizer: how far letters are distributed as in a language it knows (at least), and the
# share of character sequences that no language has (at most).
MIN_COHERENCE = 0.4
MAX_CHAOS = 0.1
MIN_BYTES = 3  # With fewer bytes beyond ASCII, a damaged byte is as likely as a letter of another encoding.
MAX_ODD_SHARE = 0.01  # So many odd bytes are damage; with more of them it is another encoding, or no text.
MAX_ODD_SHARE_OF_LINE = 0.2  # A line is short, and the lines around it say that the file is text.
MIN_WIDE_BYTES = 64  # So many bytes without one error are a multi-byte encoding, and not chance.
_WIDE = ("gb18030", "big5", "cp949", "cp932", "euc_jp", "euc_jis_2004")
_SINGLE = ("cp1250", "cp1251", "cp1252", "cp1253", "cp1254", "cp1255", "cp1256", "cp1257", "iso8859_2", "koi8_r")
_SAMPLE = 64 << 10
# A byte order mark is a declaration. UTF-32's starts like UTF-16's, so it is looked for first.
_MARKS = ((b"\xff\xfe\0\0", "utf-32"), (b"\0\0\xfe\xff", "utf-32"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))
# Without a mark: width of a character, the byte of it that is mostly NUL, and one that hardly ever is.
_UNMARKED = (("utf-32-le", 4, 3, 0), ("utf-32-be", 4, 0, 3), ("utf-16-le", 2, 1, 0), ("utf-16-be", 2, 0, 1))
MIN_WIDE_UNITS, MIN_ZERO_SHARE = 4, 0.1
_UNDECODED = re.compile("[\udc80-\udcff]+")  # what ``surrogateescape`` makes of bytes that are no UTF-8
_UTF8_SEQUENCE = re.compile(rb"[\xc2-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xf4][\x80-\xbf]{3}")
UTF8_MARK = b"\xef\xbb\xbf"


def decode_file(data: bytes, max_line_bytes: int) -> tuple[str, tuple[str, ...]]:
    """The text of a whole file and the steps taken to get it (none for UTF-8).

    Single bytes that are no text cost themselves, see ``mended``.

    Raises:
        UnreadableFileError: NUL bytes, a line that is too long, no encoding that can be told; the detail says where.
    """
    if (name := marked(data)) is not None:
        text, steps = decode_wide(data, name)
        text, nul = _without_nul(text)
        if (at := text.find("\0")) >= 0:
            raise UnreadableFileError("nul_bytes", f"at character {at}")
        check_lines(text.encode("utf-8", "surrogatepass"), max_line_bytes)
        return text, (*steps, *nul)
    data = data.removeprefix(UTF8_MARK)
    try:
        return decode(data, max_line_bytes), ()
    except UnreadableFileError as error:
        if error.args[0] not in ("invalid_utf8", "nul_bytes"):
            raise
        check_lines(data, max_line_bytes)
        name = guessed(data) if error.args[0] == "invalid_utf8" and b"\0" not in data else None
        if name is None:
            if (repaired := mended(data)) is not None:
                return repaired
            raise
    try:
        return data.decode(name), (f"decoded:{name}",)
    except UnicodeDecodeError as error:
        raise UnreadableFileError("invalid_utf8", f"nor {name} at byte {error.start}") from None


def mended(data: bytes, share: float = MAX_ODD_SHARE) -> tuple[str, tuple[str, ...]] | None:
    """UTF-8 text with a few odd bytes in it, and steps that count them; None where there are too many.

    NUL bytes go, bytes that are no UTF-8 become U+FFFD: nobody's letter, and seen by whoever reads it.
    """
    plain = data.replace(b"\0", b"")
    text = plain.decode("utf-8", "surrogateescape")
    bad, nul = sum(map(len, _UNDECODED.findall(text))), len(data) - len(plain)
    if nul + bad > share * len(data):
        return None
    return _UNDECODED.sub("\ufffd", text), Skipped(nul_bytes=nul, bad_bytes=bad).steps()


def decode_line(line: bytes, max_line_bytes: int) -> tuple[str, tuple[str, ...]]:
    """One line of UTF-8 text, odd bytes mended, and the steps that count them.

    Raises:
        UnreadableFileError: as ``decode``, where more than a few bytes are no text.
    """
    try:
        return decode(line, max_line_bytes), ()
    except UnreadableFileError as error:
        repaired = mended(line, MAX_ODD_SHARE_OF_LINE) if error.args[0] != "long_line" else None
        if repaired is None:
            raise
        return repaired


def codec_of_lines(data: bytes) -> str:
    """The encoding of a file that is read line by line: UTF-8 where it is that or cannot be told."""
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return guessed(data) or "utf-8" if b"\0" not in data else "utf-8"
    return "utf-8"


def _without_nul(text: str) -> tuple[str, tuple[str, ...]]:
    """Text without a few NUL characters, which are counted; the text as it is where there are many."""
    count = text.count("\0")
    if not count or count > MAX_ODD_SHARE * len(text):
        return text, ()
    return text.replace("\0", ""), Skipped(nul_bytes=count).steps()


def marked(data: bytes) -> str | None:
    """The encoding of wide characters that a byte order mark declares, or that NUL bytes at every second place tell;
    None for all others."""
    declared = next((name for mark, name in _MARKS if data.startswith(mark)), None)
    return declared or (_unmarked(data[:_SAMPLE]) if b"\0" in data[:_SAMPLE] else None)


def _unmarked(sample: bytes) -> str | None:
    """UTF-16 or UTF-32 without its mark: in most scripts blanks, digits, line ends and Latin letters have a NUL byte at
    one side. What comes of it must be text."""
    for name, width, zero, other in _UNMARKED:
        units = len(sample) // width
        zeros = sample[zero::width].count(0)
        if units < MIN_WIDE_UNITS or zeros < MIN_ZERO_SHARE * units or zeros <= 10 * sample[other::width].count(0):
            continue
        text = codecs.getincrementaldecoder(name)("replace").decode(sample)
        if sum((char.isprintable() and char != "\ufffd") or char in "\t\n\r" for char in text) > (
            1 - MAX_ODD_SHARE
        ) * len(text):
            return name
    return None


def decode_wide(data: bytes, name: str) -> tuple[str, tuple[str, ...]]:
    """Text of an encoding that ``marked`` told, and the steps taken: its name, and how many characters are damaged.

    Raises:
        UnreadableFileError: ``invalid_utf16``, more than a few are.
    """
    try:
        return data.decode(name), (f"decoded:{name}",)
    except UnicodeDecodeError as error:
        text = data.decode(name, "replace")
        bad = text.count("\ufffd")
        if bad > max(1, MAX_ODD_SHARE * len(text)):
            raise UnreadableFileError("invalid_utf16", f"{name} by its mark, but not at byte {error.start}") from None
        return text, (f"decoded:{name}", *Skipped(bad_bytes=bad).steps())


def decode(line: bytes, max_line_bytes: int) -> str:
    """Strict UTF-8 text out of bytes whose lines all are short enough.

    Raises:
        UnreadableFileError: a NUL byte, a line that is too long, invalid UTF-8; the detail says where.
    """
    if (at := line.find(b"\0")) >= 0:
        raise UnreadableFileError("nul_bytes", f"at byte {at}; not a text file, or UTF-16 without its mark")
    check_lines(line, max_line_bytes)
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UnreadableFileError("invalid_utf8", f"at byte {error.start}") from None


def check_lines(data: bytes, max_line_bytes: int) -> None:
    """Refuse data with a line that is too long to be text.

    Raises:
        UnreadableFileError: ``long_line``, with the byte it starts at.
    """
    start = 0
    while len(data) - start > max_line_bytes:
        end = data.find(b"\n", start, start + max_line_bytes + 1)
        if end < 0:
            raise UnreadableFileError("long_line", f"a line over {max_line_bytes} bytes at byte {start}")
        start = end + 1


def guessed(data: bytes) -> str | None:
    """The encoding of text that is not UTF-8, None where it cannot be told.

    Windows-1252 wins where it reads as well as the best guess; it is called latin-1 where it is that too.
    """
    from charset_normalizer import from_bytes

    sample = _sample(data)
    high = sum(byte >= 0x80 for byte in sample)
    in_sequences = sum(map(len, _UTF8_SEQUENCE.findall(sample)))
    if high < MIN_BYTES or in_sequences * 2 >= high:
        return None  # other encodings form UTF-8's sequences by chance only: this is UTF-8 with damaged bytes
    best = None
    for found in from_bytes(sample, cp_isolation=[*_SINGLE, *_WIDE]):
        wide = found.encoding in _WIDE
        sure = high >= MIN_WIDE_BYTES if wide else found.coherence >= MIN_COHERENCE
        if found.chaos > MAX_CHAOS or not sure:
            continue
        if best is None or (found.encoding == "cp1252" and found.coherence >= best.coherence - 0.01):
            best = found
    if best is None:
        return None
    plain = best.encoding == "cp1252" and not any(0x80 <= byte <= 0x9F for byte in data)
    return "latin-1" if plain else str(best.encoding)


def _sample(data: bytes) -> bytes:
    """Lines with bytes beyond ASCII, 64 KiB of them: the others say nothing about the encoding."""
    if len(data) <= _SAMPLE:
        return data
    taken, size = [], 0
    for line in data.split(b"\n"):
        if not line.isascii():
            taken.append(line)
            size += len(line) + 1
            if size >= _SAMPLE:
                break
    return b"\n".join(taken)
