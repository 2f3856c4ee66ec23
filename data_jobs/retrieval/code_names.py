"""Code objects that a question names: "What does divmod do?", "signature of Pdb.do_b", "the insort function", "tuple".

Vectors of short names say little, and what many names have in common (``enumerate``, ``Enum``) misleads them. Where a
question asks about nothing but one name, the documents called so are what it is about. A name within a longer question
("pickle a datetime.date") is not its subject, and is left to the search.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache

from cluster.core.records import CODE_KINDS, Chunk
from data_jobs.retrieval.wording import is_stop_word

MAX_CHARS = 200  # a longer question is about more than a name
MAX_SHARED = 12  # an everyday word that so many more documents are called by ("test", "close") names none of them
_NAME = r"[`'\"]?(?P<name>[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*)(?:\([^()]*\))?[`'\"]?"
_KIND = (
    r"(?:(?:built-?in|standard|abstract|library)\s+)?(?:function|method|class|module|package|built-?in|decorator|type"
    r"|exception|error|constant|attribute|property|object)"
)
_ABOUT = rf"(?P<article>(?:an?|the)\s+)?(?:(?P<before>{_KIND})\s+)?{_NAME}(?:\s+(?P<after>{_KIND}))?"
_SCOPE = r"(?:\s+in\s+python)?"
_PARTS = (
    r"(?:signature|parameters?|arguments?|args|options|return\s+(?:value|type)|usage|purpose|use|meaning|syntax"
    r"|examples?|documentation|docs|docstring|description)"
)
_POLITE = r"(?:(?:please|hi|hello|hey|can you|could you)\b[,!]?\s+)*"
# What is or means a word may ask about the word, ...
_OF_WORDS = (
    _ABOUT,
    rf"(?:what(?:'s|\s+is|\s+are)|explain|describe|define|tell\s+me\s+about|show(?:\s+me)?|help(?:\s+me)?\s+with)\s+{_ABOUT}",
)
# ... what it does and how it is used asks about code.
_OF_CODE = (
    rf"what(?:'s|\s+is|\s+are)\s+{_ABOUT}\s+(?:used\s+for|good\s+for|for)",
    rf"what\s+(?:does|do|can|will|would)\s+{_ABOUT}\s+(?:do|mean|return|give(?:\s+me)?|take|accept|expect)",
    rf"what\s+(?:parameters?|arguments?|args|options)\s+(?:does|do|can)\s+{_ABOUT}\s+(?:take|accept|have|expect)",
    rf"how\s+(?:(?:do|can|should|would|could|must)\s+(?:i|you|we|one)|to)\s+(?:use|call|invoke)\s+{_ABOUT}",
    rf"how\s+does\s+{_ABOUT}\s+work",
    rf"(?:when|why)\s+(?:do|should|would|can)\s+(?:i|you|we|one)\s+use\s+{_ABOUT}",
    rf"(?:(?:what(?:'s|\s+is|\s+are)|show(?:\s+me)?|give(?:\s+me)?)\s+)?(?:an?\s+|the\s+|some\s+)?{_PARTS}\s+(?:of|for|to)\s+"
    rf"(?:using\s+|calling\s+)?{_ABOUT}",
    rf"{_NAME}\s+{_PARTS}(?P<article>)(?P<before>)(?P<after>)",
)
_FORMS = tuple(
    (re.compile(rf"\W{{0,3}}{_POLITE}{form}{_SCOPE}\s*[?.!]*\s*", re.IGNORECASE), form in _OF_CODE)
    for form in (*_OF_WORDS, *_OF_CODE)
)
_SURE_KINDS = ("function", "method", "class", "module", "package", "decorator")


@dataclass(frozen=True)
class NameAsked:
    """A name that a question is about.

    Attributes:
        name: as written; joined: with what follows it, where both may be one name ("type error").
        as_code: whether it is written as only code is: a dot, ``_``, a capital letter within, backticks, parentheses.
        capital: whether it begins with a capital letter, which a class does, and the first word of a question.
        use: whether the question asks what it does or how it is used, or says what it is ("the divide method").
        article: whether it stands behind one, and the question does not say what it is.
    """

    name: str
    joined: str
    as_code: bool
    capital: bool
    use: bool
    article: bool


@dataclass(frozen=True)
class Named:
    """What an index has of the name that a question is about.

    Attributes:
        documents: ids of the documents called so; aliases count.
        rows: of chunks: the first one of each, else the one of the owner's documentation that speaks of it.
        lacking: the name, where the index documents its owner and knows nothing of it ("os.walkdir").
    """

    documents: tuple[str, ...] = ()
    rows: tuple[int, ...] = ()
    lacking: str = ""


@lru_cache(maxsize=1024)
def name_asked(question: str) -> NameAsked | None:
    """The one name that a question is about; None where it is about more, or about none."""
    if len(question) > MAX_CHARS:
        return None
    for form, of_code in _FORMS:
        if match := form.fullmatch(question):
            name, kind = match["name"], (match["before"] or match["after"] or "").lower().split()
            sure = bool(kind) and kind[-1] in _SURE_KINDS
            plain = name.isalpha() and name[1:] == name[1:].lower()
            as_code = not plain or f"{name}(" in question or f"`{name}" in question
            joined = name + (match["after"] or "").replace(" ", "")
            article = bool(match["article"]) and not sure
            return NameAsked(name, joined, as_code, name[0].isupper(), of_code or sure, article)
    return None


class CodeNames:
    """The documented code of an index by its names: whole, and their ends (``join``, ``path.join``).

    Args:
        aliases: other accepted names of each chunk's document.
    """

    def __init__(self, chunks: Iterable[Chunk], aliases: Iterable[Iterable[str]]) -> None:
        self._texts: dict[str, list[tuple[int, str]]] = {}
        self._whole: dict[str, set[str]] = {}
        self._ends: dict[str, set[str]] = {}
        for row, (chunk, others) in enumerate(zip(chunks, aliases, strict=True)):
            if chunk.kind not in CODE_KINDS:
                continue
            self._texts.setdefault(chunk.document, []).append((row, chunk.text))
            for name in (chunk.document, *others):
                self._whole.setdefault(name, set()).add(chunk.document)
                parts = name.split(".")
                for at in range(1, len(parts)):
                    self._ends.setdefault(".".join(parts[at:]), set()).add(chunk.document)
        self._folded: dict[str, set[str]] = {}
        for name in self._whole.keys() | self._ends.keys():
            self._folded.setdefault(name.lower(), set()).add(name)

    def named(self, question: str, hidden: Callable[[int], bool]) -> Named:
        """What the index has of the name that a question is about, those called just so before others; nothing where
        it is about more than a name.

        Args:
            hidden: whether a chunk's row is to be searched as if it were not there.
        """
        asked = name_asked(question)
        if asked is None or not self._texts:
            return Named()

        def seen(documents: Iterable[str]) -> list[str]:
            return sorted(d for d in documents if not hidden(self._texts[d][0][0]))

        documents = seen(self._called(asked.joined)) if asked.joined != asked.name else []
        documents = documents or seen(self._called(asked.name, asked.as_code or asked.capital))
        if not documents and not is_stop_word(asked.name) and (asked.as_code or asked.capital or not asked.article):
            documents = seen(self._ending(asked.name, asked.as_code))
            most = len(documents) if asked.as_code else MAX_SHARED if asked.use or asked.capital else 1
            documents = documents if len(documents) <= most else []
        if documents:
            return Named(tuple(documents), tuple(self._texts[d][0][0] for d in documents))
        return self._of_owner(asked.name, seen)

    def _called(self, name: str, any_case: bool = True) -> set[str]:
        return self._whole.get(name) or self._in_any_case(name, self._whole, any_case)

    def _ending(self, name: str, any_case: bool) -> set[str]:
        return self._ends.get(name) or self._in_any_case(name, self._ends, any_case)

    def _in_any_case(self, name: str, known: dict[str, set[str]], wanted: bool) -> set[str]:
        alike = self._folded.get(name.lower(), ()) if wanted else ()
        return set().union(*(known.get(one, ()) for one in alike))

    def _of_owner(self, name: str, seen: Callable[[Iterable[str]], list[str]]) -> Named:
        """Of a dotted name that no document has: the part of its owner's documentation that speaks of it."""
        owner, _, last = name.rpartition(".")
        owners = seen(self._called(owner)) if owner else []
        word = re.compile(rf"(?<!\w){re.escape(last)}(?!\w)")
        for document in owners:
            for row, text in self._texts[document]:
                if word.search(text):
                    return Named(rows=(row,))
        dunder = name.startswith("__") and name.endswith("__")
        return Named(lacking=name if owners or dunder else "")
