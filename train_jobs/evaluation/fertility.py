"""What a tokenizer makes of each language: tokens a word, characters and bytes a token, whether the text comes back.

The data are .jsonl rows with ``text`` and a language (``bcp47``, ``language``, ``lang`` or ``code``). The same content
in several languages makes the columns comparable.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import regex

from cluster.core.errors import BadInputError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

LANGUAGE = ("bcp47", "language", "lang", "code")
WORD = regex.compile(r"[\p{L}\p{M}\p{N}]+")


@dataclass(frozen=True)
class Fertility:
    """One language: how much was read, and what it became."""

    language: str
    texts: int
    words: int
    characters: int
    bytes: int
    tokens: int
    unknown: int
    round_trips: int

    def to_dict(self) -> dict[str, Any]:
        """Counts and their ratios; None where there is nothing to divide by."""
        return {
            **vars(self),
            "tokens_per_word": round(self.tokens / self.words, 3) if self.words else None,
            "characters_per_token": round(self.characters / self.tokens, 3) if self.tokens else None,
            "bytes_per_token": round(self.bytes / self.tokens, 3) if self.tokens else None,
        }


def score_fertility(data: Path, tokenizer: Tokenizer) -> list[Fertility]:
    """Each language of the data, the one with the fewest tokens a text first.

    Raises:
        BadInputError: no file of such rows.
    """
    texts: dict[str, list[str]] = {}
    for language, text in _rows(data):
        texts.setdefault(language, []).append(text)
    found = [_score(language, own, tokenizer) for language, own in texts.items()]
    return sorted(found, key=lambda one: (one.tokens / one.texts, one.language))


def _score(language: str, texts: list[str], tokenizer: Tokenizer) -> Fertility:
    encoded = [one.ids for one in tokenizer.encode_batch(texts, add_special_tokens=False)]
    unknown = json.loads(tokenizer.to_str())["model"].get("unk_token")
    number = tokenizer.token_to_id(unknown) if unknown else None
    back = tokenizer.decode_batch(encoded, skip_special_tokens=False)
    return Fertility(
        language, len(texts), sum(len(WORD.findall(text)) for text in texts), sum(map(len, texts)),
        sum(len(text.encode()) for text in texts), sum(map(len, encoded)),
        sum(ids.count(number) for ids in encoded) if number is not None else 0,
        sum(one == text for one, text in zip(back, texts, strict=True)),
    )  # fmt: skip


def _rows(data: Path) -> list[tuple[str, str]]:
    found = []
    try:
        for place, line in enumerate(data.read_text(encoding="utf-8").split("\n"), 1):
            if not line.strip():
                continue
            row = json.loads(line)
            language = next((str(row[key]) for key in LANGUAGE if row.get(key)), "")
            if not language or not isinstance(row.get("text"), str) or not row["text"]:
                raise BadInputError(f"{data}:{place} has no text, or no language ({', '.join(LANGUAGE)})")
            found.append((language, row["text"]))
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise BadInputError(f"{data} is no file of JSON rows: {str(error)[:200]}", path=str(data)) from None
    if not found:
        raise BadInputError(f"{data} holds no rows", path=str(data))
    return found
