"""The thesaurus: phrases, weights, files, and its effect on a search."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster.core.errors import UsageError
from cluster.core.records import Chunk
from data_jobs.retrieval.analysis import terms
from data_jobs.retrieval.synonyms import WEIGHT, Thesaurus, load_thesaurus, thesaurus_for


def test_words_and_phrases_find_the_rest_of_their_group() -> None:
    thesaurus = Thesaurus(["# comment", "folder, directory", "web page, html  # said in docs", "", "alone"])
    assert thesaurus.related(terms("copy the folders")) == {"directori": WEIGHT}
    assert thesaurus.related(terms("parse html")) == pytest.approx({"web": WEIGHT / 2**0.5, "page": WEIGHT / 2**0.5})
    assert thesaurus.related(terms("a web page")) == {"html": WEIGHT}
    assert thesaurus.related(terms("the web")) == {}
    assert thesaurus.related(terms("folder or directory")) == {}
    assert thesaurus.related([]) == {}


def test_the_shipped_one_loads_and_an_empty_name_switches_it_off() -> None:
    assert "directori" in load_thesaurus("software").related(terms("a folder"))
    assert load_thesaurus("").related(terms("a folder")) == {}


def test_a_file_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("berth, mooring\n")
    assert load_thesaurus(str(tmp_path / "words.txt")).related(["berth"]) == {"moor": WEIGHT}
    with pytest.raises(UsageError, match=r"retrieval\.synonyms"):
        load_thesaurus(str(tmp_path / "nothing.txt"))


def chunks(text: str, count: int, kind: str = "file") -> list[Chunk]:
    return [Chunk(f"c{i}", f"d{i}", "", "", text, 0, len(text), kind=kind) for i in range(count)]


@pytest.mark.parametrize(
    "code",
    ["```\nmake\n```", "Call `copy()` twice.", "Set max_tokens first.", "use std::fs::read(path)", "    $ pip list"],
)
def test_auto_is_the_shipped_one_for_corpora_about_software(code: str) -> None:
    prose = chunks("The mRNA of p53 (n = 12.5) rose. See fig. 3.2, e.g. in S. Miller's table.", 80)
    assert thesaurus_for("auto", prose) == ""
    assert thesaurus_for("auto", [*prose, *chunks(code, 5)]) == ""
    assert thesaurus_for("auto", [*prose, *chunks(code, 20)]) == "software"


def test_auto_of_an_api_and_of_nothing() -> None:
    assert thesaurus_for("auto", chunks("Return a shallow copy.", 3, "function")) == "software"
    assert thesaurus_for("auto", []) == ""
    assert thesaurus_for("", chunks("Return a shallow copy.", 3, "function")) == ""
    assert thesaurus_for("software", chunks("Roses are red.", 3)) == "software"
