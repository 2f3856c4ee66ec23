"""The published filters of web text: each rule with a page that passes and one that it drops."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from data_jobs.filters.quality import judge
from data_jobs.filters.web_quality import (
    RULES,
    Page,
    c4_few_sentences,
    fineweb_line_punctuation,
    gopher_stop_words,
    gopher_word_count,
    gopher_word_length,
    web_reason,
)
from data_jobs.text.normalise import normalise

GOOD = """The old harbour of the town was built in the twelfth century, and most of its walls still stand today.
Merchants who came from the north brought salt, wool and amber, which they sold to the people of the valley.
After the great fire of 1682 the council decided to have every house near the water rebuilt in stone.
Visitors can walk along the quay with a guide, or they can take one of the small boats that leave each hour.
In winter the lighthouse is closed, but the museum behind the market keeps its doors open until the evening.
A new bridge, which the region had wanted to see for decades, will be finished before the end of the year.
"""
LINES = GOOD.strip().split("\n")


def with_lines(*extra: str, times: int = 1) -> str:
    return "\n".join([*LINES, *extra * times])


BAD = {
    "gopher_word_count": "A short page of text. It has three sentences in it. That is not enough words for Gopher.",
    "gopher_word_length": GOOD.replace(" ", " supercalifragilisticexpialidocious "),
    "gopher_symbols": GOOD.replace(" the ", " #the #of #a "),
    "gopher_bullets": "\n".join("- " + line for line in LINES),
    "gopher_ellipsis_lines": "\n".join(line.rstrip(".") + "..." for line in LINES),
    "gopher_alphabetic": GOOD.replace(" ", " 17 "),
    "gopher_stop_words": "\n".join(f"Zeile {i} erzählt etwas Neues über Häfen, Boote und Türme." for i in range(9)),
    "gopher_duplicate_lines": with_lines(LINES[0], LINES[1], LINES[2], LINES[3]),
    "gopher_duplicate_paragraphs": "\n\n".join([*LINES, *LINES[:4]]),
    "gopher_top_ngrams": GOOD.replace(" the ", " the old grey harbour town the old grey harbour town "),
    "gopher_duplicate_ngrams": with_lines("It said: " + LINES[0], "Then: " + LINES[0], "Again: " + LINES[1]),
    "c4_lorem_ipsum": with_lines("Lorem ipsum dolor sit amet is what a typesetter writes when there is no text."),
    "c4_curly_bracket": with_lines("if (harbour) { return to the town as soon as the weather permits it; }"),
    "c4_few_sentences": GOOD.replace(".", ",").replace("\n", " and\n").replace("year, and", "year and more\"") + "'",
    "fineweb_line_punctuation": "\n".join([line.rstrip(".") for line in LINES[1:]]) + "\nIt ends. It does. It has. So",
    "fineweb_short_lines": with_lines(*(f"Item number {i}." for i in range(15))),
    "fineweb_duplicate_line_characters": with_lines(LINES[0]),
}  # fmt: skip


def test_a_good_page_passes_every_rule() -> None:
    assert {rule(Page(GOOD)) for rule in RULES} == {""}
    assert judge(GOOD, 3, "web").keep


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_each_rule_drops_what_it_names(rule: Callable[[Page], str]) -> None:
    assert rule(Page(BAD[rule.__name__])) == rule.__name__
    assert not judge(BAD[rule.__name__], 3, "web").keep


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_no_rule_drops_the_empty_page_by_an_error(rule: Callable[[Page], str]) -> None:
    for text in ("", " \n", "\n\n", "...", "#", "a"):
        assert rule(Page(text)) in ("", rule.__name__)


@pytest.mark.parametrize(("words", "keeps"), [(49, False), (50, True), (100_000, True), (100_001, False)])
def test_published_limits_of_the_number_of_words(words: int, keeps: bool) -> None:
    by_name = {rule.__name__: rule for rule in RULES}
    assert (by_name["gopher_word_count"](Page("word " * words)) == "") is keeps


@pytest.mark.parametrize(("bullets", "keeps"), [(9, True), (10, False)])
def test_nine_of_ten_bullets_are_still_a_page(bullets: int, keeps: bool) -> None:
    by_name = {rule.__name__: rule for rule in RULES}
    text = "\n".join(["- item"] * bullets + ["text"] * (10 - bullets))
    assert (by_name["gopher_bullets"](Page(text)) == "") is keeps


def test_other_languages_need_no_english_stop_words() -> None:
    text = BAD["gopher_stop_words"]
    assert web_reason(text, "en") == "gopher_stop_words"
    assert web_reason(text, "de") != "gopher_stop_words"


def test_the_profile_decides() -> None:
    short = "Return the sum of a and b."
    assert judge(short, 3).keep
    assert judge(short, 3, "web").reason == "gopher_word_count"
    assert judge("two words", 3, "web").reason == "too_few_words"


def test_abstracts_of_papers_pass(data_set: Callable[[str], Path]) -> None:
    """Abstracts of papers are text; what is dropped of them is dropped for a published reason."""
    rows = [json.loads(line) for line in (data_set("ret_scifact") / "corpus.jsonl").read_text().splitlines()[:400]]
    reasons = [web_reason(row["text"], "en") for row in rows]
    long_enough = [r for r, row in zip(reasons, rows, strict=True) if len(row["text"].split()) >= 80]
    assert long_enough.count("") >= 0.9 * len(long_enough)
    assert set(reasons) <= {"", *(rule.__name__ for rule in RULES)}


@pytest.mark.process
def test_verdicts_agree_with_datatrove(data_set: Callable[[str], Path]) -> None:
    """Gopher's quality rules against another implementation of them. Left out: the share of words with a letter (there
    every punctuation mark is a word, which drops most technical text)."""
    document = pytest.importorskip("datatrove.data").Document
    module = pytest.importorskip("datatrove.pipeline.filters.gopher_quality_filter")
    theirs = module.GopherQualityFilter(max_non_alpha_words_ratio=None)
    ours = [rule for rule in RULES if rule.__name__ in QUALITY]
    rows = [json.loads(line) for line in (data_set("pretrain_docs_rustbook") / "docs.jsonl").read_text().splitlines()]
    texts = [row["text"] for row in rows][:30] + list(BAD.values()) + ["word " * 40 + "the be to of"]
    verdicts = [
        (theirs.filter(document(text=text, id="x")) is True, not any(rule(Page(text)) for rule in ours))
        for text in texts
    ]
    assert len({verdict for verdict, _ in verdicts}) == 2
    assert sum(left == right for left, right in verdicts) >= 0.95 * len(texts)


QUALITY = {
    "gopher_word_count", "gopher_word_length", "gopher_symbols", "gopher_bullets", "gopher_ellipsis_lines",
    "gopher_stop_words",
}  # fmt: skip


SENTENCES = {
    "zh": "请提前到达第{}站台等候，并且带好您的车票和护照以便检查。",
    "ja": "作業を始める前に、第{}装置の電源を切り、札を掛けてください。",
    "th": "ผู้โดยสารทุกท่านต้องมาถึงชานชาลาที่{}ก่อนเวลาออกเดินทางและเตรียมตั๋ว",
    "ko": "열차가 떠나기 전에 제{} 승강장에 와서 표를 보여 주십시오.",
    "am": "መንገደኞች፡ሁሉ፡በ{}ኛው፡መድረክ፡ላይ፡ቀድመው፡መገኘት፡አለባቸው፡ትኬታቸውንም፡ያዘጋጁ።",
    "ml": "ദയവായി യാത്രക്കാരെല്ലാവരും പുറപ്പെടുന്നതിനുമുമ്പ് {} പ്ലാറ്റ്ഫോമിലെത്തിച്ചേരേണ്ടതാണ്.",
}


@pytest.mark.parametrize("language", SENTENCES)
def test_words_are_counted_as_the_language_counts_them(language: str) -> None:
    page = Page("\n".join(SENTENCES[language].format(number) for number in range(1, 16)), language)
    rules = [gopher_word_count, gopher_word_length, gopher_stop_words, c4_few_sentences, fineweb_line_punctuation]
    assert [rule(page) for rule in rules] == [""] * len(rules)
    assert web_reason(SENTENCES[language].format(1)[:12], language) == "gopher_word_count"


def test_the_declaration_of_human_rights_passes_in_nearly_every_language(data_set: Callable[[str], Path]) -> None:
    rows = [json.loads(line) for line in (data_set("multi_udhr") / "udhr.jsonl").read_text().splitlines()]
    refused = [row["code"] for row in rows if web_reason(normalise(row["text"]), row["iso639_3"])]
    assert len(refused) <= 1, refused
