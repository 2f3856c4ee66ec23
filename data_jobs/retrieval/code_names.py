"""Code objects that a question names: "What does divmod do?", "signature of Pdb.do_b", "the insort function", "tuple".

Vectors of short names say little, and what many names have in common (``enumerate``, ``Enum``) misleads them. Where a
question asks about nothing but one name, the documents called so are what it is about. A name within a longer question
("pickle a datetime.date") is not its subject, and is left to the search.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from cluster.core.records import CODE_KINDS, Chunk

MAX_CHARS = 200  # a longer question is about more than a name
MAX_SHARED = 5  # an everyday word that so many more documents are called by ("test", "append") names none of them
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
_OF_CODE = re.compile(r"\b(?:signature|parameters?|arguments?|args|docstring|call|invoke)\b", re.IGNORECASE)
_POLITE = r"(?:(?:please|hi|hello|hey|can you|could you)\b[,!]?\s+)*"
_FORMS = tuple(
    re.compile(rf"\W{{0,3}}{_POLITE}{form}{_SCOPE}\s*[?.!]*\s*", re.IGNORECASE)
    for form in (
        _ABOUT,
        rf"(?:what(?:'s|\s+is|\s+are)|explain|describe|define|tell\s+me\s+about|show(?:\s+me)?|help(?:\s+me)?\s+with)\s+{_ABOUT}",
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
)


@dataclass(frozen=True)
class NameAsked:
    """A name that a question is about.

    Attributes:
        name: as written.
        code: whether the question writes it as code is written, or says what it is ("the divide method").
        article: whether it stands behind one: in "What is a set?" the word is a name only where a document is called
            just so.
    """

    name: str
    code: bool
    article: bool


@lru_cache(maxsize=1024)
def name_asked(question: str) -> NameAsked | None:
    """The one name that a question is about; None where it is about more, or about none."""
    if len(question) > MAX_CHARS:
        return None
    for form in _FORMS:
        if match := form.fullmatch(question):
            name = match["name"]
            as_code = not (name.isalpha() and name.islower()) or f"{name}(" in question or f"`{name}" in question
            as_code = as_code or bool(_OF_CODE.search(question))
            return NameAsked(name, as_code or bool(match["before"] or match["after"]), bool(match["article"]))
    return None


class CodeNames:
    """The documented code of an index by its names: whole, and their ends (``join``, ``path.join``)."""

    def __init__(self, chunks: Iterable[Chunk], aliases: Iterable[Iterable[str]]) -> None:
        self._whole: dict[str, set[str]] = {}
        self._ends: dict[str, set[str]] = {}
        for chunk, others in zip(chunks, aliases, strict=True):
            if chunk.kind not in CODE_KINDS:
                continue
            for name in (chunk.document, *others):
                self._whole.setdefault(name, set()).add(chunk.document)
                parts = name.split(".")
                for at in range(1, len(parts)):
                    self._ends.setdefault(".".join(parts[at:]), set()).add(chunk.document)

    def documents(self, question: str) -> set[str]:
        """Ids of the documents that the question is about, those called just so before others; none where it is about
        more than a name."""
        asked = name_asked(question)
        if asked is None:
            return set()
        found = self._whole.get(asked.name, set())
        if found or (asked.article and not asked.code):
            return found
        found = self._ends.get(asked.name, set())
        return found if asked.code or len(found) <= MAX_SHARED else set()


def is_called(document: str, question: str) -> bool:
    """Whether a question about nothing but a name may mean this code object: its last part is the same, what it belongs
    to may have another name (an alias)."""
    asked = name_asked(question)
    return asked is not None and document.rpartition(".")[2] == asked.name.rpartition(".")[2]


def names_code(question: str) -> bool:
    """Whether a question is about nothing but a name that is written as only code is: "sys.argv", ``__init__``."""
    asked = name_asked(question)
    return asked is not None and ("." in asked.name or asked.name.startswith("__"))
