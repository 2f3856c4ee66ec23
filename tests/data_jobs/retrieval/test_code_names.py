"""Questions about nothing but a name: told from those that only hold one, and answered by what is called so."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from cluster.core.records import Document
from data_jobs.retrieval.code_names import CodeNames, is_called, name_asked
from data_jobs.retrieval.search import Searcher
from data_jobs.retrieval.support import NAMED
from tests.data_jobs.retrieval.documents import CORPUS
from train_jobs.answering.abstention import support

OTHERS = [
    Document("enum.Enum", "enum.Enum", "Create a collection of name/value pairs.", "enum.py:1", "t", "class",
             questions=("What is an enumeration?", "How do I enumerate a few fixed values?")),
    Document("enumerate", "enumerate(iterable, start=0)", "Give what is in it, with counts.", "builtins", "t", "class"),
    Document("any", "any(iterable, /)", "True if bool(x) is True for some x.", "builtins", "t", "function"),
    Document("pdb.Pdb.do_whatis", "pdb.Pdb.do_whatis(arg)", "whatis thing: print its type.", "pdb.py", "t", "method"),
    *(Document(f"m{n}.test", f"m{n}.test()", "Self-test of it.", "m.py", "t", "function") for n in range(6)),
]  # fmt: skip


@pytest.fixture(scope="module")
def search(searcher: Callable[[Sequence[Document]], Searcher]) -> Searcher:
    return searcher([*CORPUS, *OTHERS])


@pytest.mark.parametrize(
    ("question", "name"),
    [
        ("What does divmod do?", "divmod"),
        ("what is a tuple", "tuple"),
        ("What is `os.path.join`?", "os.path.join"),
        ("How do I use insort()?", "insort"),
        ("how does insort work in Python?", "insort"),
        ("the insort function", "insort"),
        ("signature of Pdb.do_b", "Pdb.do_b"),
        ("Give me an example of functools.partial", "functools.partial"),
        ("What arguments does copytree take?", "copytree"),
        ("partial example", "partial"),
        ("Please explain lru_cache.", "lru_cache"),
        ("When should I use Counter?", "Counter"),
    ],
)
def test_a_question_about_a_name(question: str, name: str) -> None:
    asked = name_asked(question)
    assert asked is not None
    assert asked.name == name


@pytest.mark.parametrize(
    "question",
    [
        "How do I pickle a datetime.date?",
        "What is the best way to find the most common items in a list?",
        "How do I use a lock between two processes?",
        "What does the tuple of os.walk hold?",
        "difference between copy and deepcopy",
        "How do I copy a file?",
        "",
        "`" * 300,
    ],
)
def test_a_question_about_more_than_a_name(question: str) -> None:
    assert name_asked(question) is None


@pytest.mark.parametrize(
    ("question", "document"),
    [
        ("What is enumerate?", "enumerate"),
        ("What does any do?", "any"),  # but for stop words there is nothing in it
        ("How do I use acquire?", "files.Lock.acquire"),
        ("What does Lock.release do?", "files.Lock.release"),
        ("signature of files.api.copytree", "files.copytree"),  # an alias
    ],
)
def test_what_is_called_so_comes_first_and_is_answered(search: Searcher, question: str, document: str) -> None:
    found = search.search(question)
    assert found.passages[0].document == document
    verdict = support(question, found)
    assert verdict.grounded
    assert verdict.probability >= NAMED


def test_an_everyday_word_behind_an_article_is_a_name_only_where_a_document_is_called_just_so(search: Searcher) -> None:
    names = CodeNames(search.snapshot.chunks, search.snapshot.aliases)
    assert names.documents("What is a release?") == set()
    assert names.documents("What is a release method?") == {"files.Lock.release"}
    assert names.documents("What does release do?") == {"files.Lock.release"}
    assert names.documents("What is an enumerate?") == {"enumerate"}
    assert names.documents("test") == set(), "six documents are called so"
    assert len(names.documents("the test function")) == len(names.documents("signature of test")) == 6
    assert names.documents("garden.md") == set(), "prose has other names"
    assert not is_called("files.Lock.release", "What does acquire do?")


def test_what_is_hidden_is_not_found_by_its_name(searcher: Callable[[Sequence[Document]], Searcher]) -> None:
    search = searcher([*CORPUS, *OTHERS])
    search.hide(["enumerate"])
    assert all(p.document != "enumerate" for p in search.search("What is enumerate?").passages)


@pytest.mark.parametrize(
    "question", ["What is files.tree?", "what does __enter__ do", "how do I use files.Lock.renew?"]
)
def test_a_name_of_code_that_no_document_has_is_refused(search: Searcher, question: str) -> None:
    assert not support(question, search.search(question)).grounded
