"""What the rules find, in order of trust, and its replacement by placeholders."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Protocol, get_args

from cluster.core.sections.data import PersonalData
from data_jobs.pii.addresses import addresses_in
from data_jobs.pii.credentials import secrets_in
from data_jobs.pii.emails import emails_in, may_hold_emails
from data_jobs.pii.form import Form
from data_jobs.pii.identifiers import cards_in, ibans_in, national_ids_in, ssns_in
from data_jobs.pii.internet import ips_in, urls_in
from data_jobs.pii.phones import CONTEXT_CHARS, phones_in

MAX_ENTITY_CHARS = 128
_LEFT = 64  # No rule looks further than this to the left of what it finds.
# Two looks have found everything in every text so far; this stops texts that were made to keep the rules looking.
MAX_LOOKS = 8
TYPES: tuple[str, ...] = get_args(PersonalData)  # the most trusted first
MODEL_TYPES = frozenset(("PERSON", "ADDRESS"))
DEFAULT_TYPES = tuple(kind for kind in TYPES if kind != "URL")


@dataclass(frozen=True)
class Finding:
    """``text[start:end]`` is of ``type`` (one of ``TYPES``)."""

    type: str
    start: int
    end: int


class NameFinder(Protocol):
    """Finds what rules cannot know: persons and places (``data_jobs.pii.names``)."""

    def entities(self, text: str) -> list[TypedSpan]:
        """Half-open character spans ``(start, end, type)`` of these in the text, sorted, not overlapping."""
        ...


def find(text: str, types: Collection[str] = DEFAULT_TYPES, names: NameFinder | None = None) -> list[Finding]:
    """Everything in ``text`` that should not be in it: sorted, not overlapping, each at most MAX_ENTITY_CHARS long.

    Rules look at the text's ``Form``. They look again with what was found covered: two addresses glued together hide
    each other.

    Args:
        types: those to report, out of ``TYPES``. A less trusted one never takes what a more trusted one claims, be
            that reported or not.
        names: finds what a model is for (``PERSON``, more ``ADDRESS``); without it only the rules look.
    """
    form = Form(text)
    rules = [rule for rule in _RULES if _needed(rule[0], types)]
    spans = _all_spans(form.text, rules)
    if names is not None and not MODEL_TYPES.isdisjoint(types):
        spans = _with_model(spans, names.entities(form.text), types, form.text)
    found: list[Finding] = []
    for begin, finish, kind in sorted(spans):
        start, end = form.original(begin, finish)
        start = max(start, found[-1].end) if found else start
        if kind in types:
            found += [Finding(kind, at, min(at + MAX_ENTITY_CHARS, end)) for at in range(start, end, MAX_ENTITY_CHARS)]
    return found


def _with_model(
    spans: list[TypedSpan], entities: list[TypedSpan], types: Collection[str], text: str
) -> list[TypedSpan]:
    """The rules' spans and what the model adds. An address of the rules grows by one of the model that overlaps it."""
    covered = bytearray(len(text))
    for start, end, kind in spans:
        if kind not in ("ADDRESS", "URL"):
            covered[start:end] = b"\x01" * (end - start)
    addresses = [span for span in spans if span[2] == "ADDRESS"]
    added = [e for e in entities if e[2] in types and covered.find(1, e[0], e[1]) < 0 and "<" not in text[e[0] : e[1]]]
    streets = _united([*addresses, *(e for e in added if e[2] == "ADDRESS")])
    kept = [span for span in spans if span[2] not in ("ADDRESS", "URL")] + streets
    for start, end, _ in streets:
        covered[start:end] = b"\x01" * (end - start)
    for span in [*(e for e in added if e[2] != "ADDRESS"), *(s for s in spans if s[2] == "URL")]:
        if covered.find(1, span[0], span[1]) < 0:
            kept.append(span)
            covered[span[0] : span[1]] = b"\x01" * (span[1] - span[0])
    return kept


def _united(spans: list[TypedSpan]) -> list[TypedSpan]:
    united: list[TypedSpan] = []
    for start, end, kind in sorted(spans):
        if united and start < united[-1][1]:
            united[-1] = (united[-1][0], max(end, united[-1][1]), kind)
        else:
            united.append((start, end, kind))
    return united


def _all_spans(text: str, rules: list[PiiRule]) -> list[TypedSpan]:
    """What the rules find in repeated looks.

    The first look is at everything, the others at the surroundings of what may hide something.
    """
    spans: list[TypedSpan] = []
    windows = [(0, len(text))]
    for _ in range(MAX_LOOKS):
        fresh: list[TypedSpan] = []
        near: list[tuple[int, int]] = []
        cut = False
        for begin, end in windows:
            left, right = begin + _LEFT * (begin > 0), end - CONTEXT_CHARS * (end < len(text))
            found, refused = _look(text[begin:end], rules)
            near += [(at + begin, to + begin) for at, to in refused]
            for at, to, kind in found:
                if left <= at + begin and to + begin <= right:
                    fresh.append((at + begin, to + begin, kind))
                else:
                    cut = True
        spans += fresh
        near += [(start, end) for start, end, kind in fresh if _is_glued(text, start, end, kind)]
        windows = [(0, len(text))] if cut else _windows(len(text), near)
        text = _covered(text, fresh)
        if not windows:
            break
    return spans


def _windows(size: int, spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Where to look again: around these spans, in order, not overlapping."""
    windows: list[tuple[int, int]] = []
    reach = MAX_ENTITY_CHARS + _LEFT
    for start, end in sorted(spans):
        begin, end = max(0, start - reach), min(size, end + reach)
        if windows and begin <= windows[-1][1]:
            windows[-1] = (windows[-1][0], max(end, windows[-1][1]))
        else:
            windows.append((begin, end))
    return windows


def _needed(kind: str, types: Collection[str]) -> bool:
    """Rules before the last one asked for run even if they are not reported: they say what is not of its type."""
    return any(TYPES.index(kind) <= TYPES.index(wanted) for wanted in types)


def _covered(text: str, spans: list[TypedSpan]) -> str:
    parts, at = [], 0
    for start, end, _ in sorted(spans):
        parts += [text[at:start], "<" * (end - start)]
        at = end
    return "".join([*parts, text[at:]])


def _look(text: str, rules: list[PiiRule]) -> tuple[list[TypedSpan], list[tuple[int, int]]]:
    """Spans that the rules claim, and claims refused although part of them is free.

    Where two claim the same characters the earlier rule has them.
    """
    taken: list[TypedSpan] = []
    refused: list[tuple[int, int]] = []
    covered = bytearray(len(text))
    for kind, needs, rule in rules:
        if needs(text):
            for start, end in rule(text):
                if covered.find(1, start, end) < 0:
                    taken.append((start, end, kind))
                    covered[start:end] = b"\x01" * (end - start)
                elif covered.find(0, start, end) >= 0:
                    refused.append((start, end))
    return taken, refused


def _is_glued(text: str, start: int, end: int, kind: str) -> bool:
    """Whether something stands so close to a finding that it may have kept another rule from seeing it.

    The rules of phones take digits only: a word behind a blank was not hidden by them.
    """
    before, after = text[max(0, start - 2) : start], text[end : end + 2]
    if kind == "PHONE":
        return _TELLING(before[-1:] + " " + after[:1]) is not None or any(c.isdigit() for c in before + after)
    return _TELLING(before + " " + after) is not None


def redact(
    text: str, types: Collection[str] = DEFAULT_TYPES, names: NameFinder | None = None
) -> tuple[str, list[Finding]]:
    """``text`` with typed placeholders (``<EMAIL_1>``: the same value has the same number), and what was found.

    The findings' offsets are those in the given text. Nothing is left in the result that the rules would report.
    """
    findings = find(text, types, names)
    numbers: dict[str, dict[str, int]] = {kind: {} for kind in TYPES}
    parts, at = [], 0
    for kind, start, end in _joined(findings):
        number = numbers[kind].setdefault(text[start:end], len(numbers[kind]) + 1)
        parts += [text[at:start], f"<{kind}_{number}>"]
        at = end
    return "".join([*parts, text[at:]]), findings


def _joined(findings: list[Finding]) -> Iterator[tuple[str, int, int]]:
    """Findings with the touching pieces of a long one put together again."""
    index = 0
    while index < len(findings):
        first = findings[index]
        end = first.end
        index += 1
        while index < len(findings) and findings[index].start == end and findings[index].type == first.type:
            end = findings[index].end
            index += 1
        yield first.type, first.start, end


TypedSpan = tuple[int, int, str]
PiiRule = tuple[str, Callable[[str], object], Callable[[str], Iterator[tuple[int, int]]]]
_TELLING = re.compile(r"[^\W_]|[_@+/.:-]").search
# Most texts hold no run of digits long enough for a number: one cheap look saves the rules.
_DIGITS_AND_SEPARATORS = re.compile(r"\d[\d ().-]{5}").search
_DIGITS_OF_ANY_GROUPS = re.compile(r"[\dlO][\dlO ().,/\n_*-]{5}").search
_RULES: tuple[PiiRule, ...] = (
    ("SECRET", lambda text: True, secrets_in),
    ("EMAIL", may_hold_emails, emails_in),
    ("IBAN", lambda text: True, ibans_in),
    ("CARD", _DIGITS_OF_ANY_GROUPS, cards_in),
    ("SSN", _DIGITS_OF_ANY_GROUPS, ssns_in),
    ("NATIONAL_ID", re.compile(r"\d\w?[\d ./-]").search, national_ids_in),
    ("IP", re.compile(r"\d\.\d{1,3}\.|[0-9A-Fa-f]:[0-9A-Fa-f]{0,4}:").search, ips_in),
    ("PHONE", _DIGITS_OF_ANY_GROUPS, phones_in),
    ("ADDRESS", re.compile(r"\d").search, addresses_in),
    ("URL", lambda text: "." in text or "://" in text, urls_in),
)
