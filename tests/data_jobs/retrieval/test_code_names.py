"""Questions about nothing but a name: told from those that only hold one, and answered by what is called so."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from cluster.core.records import Document
from data_jobs.retrieval.code_names import CodeNames, name_asked
from data_jobs.retrieval.results import Retrieval
from data_jobs.retrieval.search import Searcher
from data_jobs.retrieval.support import MISSING, NAMED, confidence
from tests.data_jobs.retrieval.documents import CORPUS
from train_jobs.answering.abstention import support
from train_jobs.answering.forms.refusal import refused

OTHERS = [
    Document("enum.Enum", "enum.Enum", "Create a collection of name/value pairs.", "enum.py:1", "t", "class",
             questions=("What is an enumeration?", "How do I enumerate a few fixed values?")),
    Document("enumerate", "enumerate(iterable, start=0)", "Give what is in it, with counts.", "builtins", "t", "class"),
    Document("any", "any(iterable, /)", "True if bool(x) is True for some x.", "builtins", "t", "function"),
    Document("pdb.Pdb.do_whatis", "pdb.Pdb.do_whatis(arg)", "whatis thing: print its type.", "pdb.py", "t", "method"),
    Document("LookupError", "LookupError", "Base class for lookup errors.", "builtins", "t", "class"),
    Document("codecs.lookup", "codecs.lookup(encoding)", "Look a codec up.", "codecs.py", "t", "function"),
    *(Document(f"{n}.fresh", f"{n}.fresh()", "Make another one.", "n.py", "t", "function") for n in "ab"),
    *(Document(f"m{n:02}.test", f"m{n:02}.test()", "Self-test of it.", "m.py", "t", "function") for n in range(13)),
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


def none_hidden(row: int) -> bool:
    return row < 0


@pytest.fixture(scope="module")
def names(search: Searcher) -> CodeNames:
    return CodeNames(search.snapshot.chunks, search.snapshot.aliases)


@pytest.mark.parametrize(
    ("question", "documents"),
    [
        ("What is a release?", ()),
        ("What is release?", ("files.Lock.release",)),
        ("What is a release method?", ("files.Lock.release",)),
        ("What does release do?", ("files.Lock.release",)),
        ("What is an enumerate?", ("enumerate",)),
        ("What does Enumerate() do?", ("enumerate",)),
        ("Enumerate", ("enumerate",)),
        ("Fresh", ()),  # the first word of a question has a capital letter, as a class has
        ("What is a Lock?", ("files.Lock",)),
        ("Lock", ("files.Lock",)),
        ("What is a lock?", ()),
        ("What is Files.copytree?", ("files.copytree",)),
        ("What is a lookup error?", ("LookupError",)),
        ("What is a release error?", ()),  # no name of ours
        ("test", ()),  # thirteen documents are called so
        ("the test function", ()),
        ("What does test() do?", tuple(f"m{n:02}.test" for n in range(13))),
        ("What is fresh?", ()),  # two are, and it may be asked what the word means
        ("What does fresh do?", ("a.fresh", "b.fresh")),
        ("What does it do?", ()),
        ("What is garden.md?", ()),  # prose has other names
        ("What is Node.js?", ()),
    ],
)
def test_which_documents_a_question_names(names: CodeNames, question: str, documents: tuple[str, ...]) -> None:
    assert names.named(question, none_hidden).documents == documents


def test_a_name_that_only_its_owner_speaks_of_is_looked_for_there(names: CodeNames, search: Searcher) -> None:
    """``sys.argv`` has no documentation of its own: that of ``sys`` has a line on it."""
    found = names.named("What is files.trees?", none_hidden)
    assert (found.documents, found.lacking) == ((), "")
    assert [search.snapshot.chunks[row].document for row in found.rows] == ["files"]
    assert names.named("What is files.walk?", none_hidden).lacking == "files.walk"
    assert names.named("What does self.renew do?", none_hidden).lacking == "", "whose it is, is not known"
    assert search.search("What is files.trees?").passages[0].document == "files"


def test_what_is_hidden_is_not_found_by_its_name(searcher: Callable[[Sequence[Document]], Searcher]) -> None:
    search = searcher([*CORPUS, *OTHERS])
    search.hide(["enumerate", "a.fresh"])
    assert all(p.document != "enumerate" for p in search.search("What is enumerate?").passages)
    assert search.search("What is fresh?").called == ("b.fresh",), "and nothing else is called so"


@pytest.mark.parametrize("question", ["What is files.tree?", "what does __enter__ do", "how to use files.Lock.renew?"])
def test_a_name_of_code_that_no_document_has_is_refused(search: Searcher, question: str) -> None:
    found = search.search(question)
    assert not support(question, found).grounded
    assert f"Not found: {found.lacking}." in refused(found, "low_support", 0.1).text


def test_beside_prose_a_name_is_not_refused_for_what_code_lacks(search: Searcher) -> None:
    found = search.search("What is files.tree?")
    prose = replace(found.passages[0], kind="file")
    judged = confidence("What is files.tree?", replace(found, passages=(*found.passages, prose), confidence=None))
    assert judged.probability > MISSING


def test_a_result_keeps_what_was_called_so(search: Searcher) -> None:
    found = search.search("What does release do?")
    assert found.called == ("files.Lock.release",)
    assert Retrieval.from_dict(found.to_dict()) == found
