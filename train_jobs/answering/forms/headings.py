"""What reads as a heading though its layout does not say so: a short line alone between blank lines, without a verb's
sentence end. It says what follows is about, and answers nothing."""

from __future__ import annotations

import re

from cluster.core.records import Passage
from data_jobs.retrieval.results import ScoredSentence
from data_jobs.text.units import SENTENCE

MAX_WORDS = 8
_ENDS = re.compile(r"[.!?:;,。！？：…)\"'”’`]\W*$|\d\W*$")
_ITEM = re.compile(r"[ \t]*(?:[-+•]|\*(?!\*)|\d{1,3}[.)])[ \t]")


def is_heading(passage: Passage, sentence: ScoredSentence) -> bool:
    """Whether a unit found as a sentence is a line of a heading's kind: it is all of its paragraph, short, ends in no
    stop, is no item of a list, and more text follows it."""
    text = sentence.text.strip("*_# \t")
    if sentence.kind != SENTENCE or len(text.split()) > MAX_WORDS or _ENDS.search(text):
        return False
    at, end = sentence.start - passage.start, sentence.end - passage.start
    before, after = passage.text[:at].rpartition("\n"), passage.text[end:].partition("\n")
    line = before[2] + passage.text[at:end] + after[0]
    alone = line.strip("*_#: \t") == text and not _ITEM.match(line)
    blank_after = after[2].startswith("\n") or not after[2].partition("\n")[0].strip()
    blank_before = not before[0].strip("\n") or before[0].endswith("\n")
    return alone and blank_before and blank_after and bool(after[2].strip())
