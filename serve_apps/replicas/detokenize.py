"""Token ids to text while they come, each id looked at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tokenizers.decoders import DecodeStream

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class TextDecoder:
    """The text of a completion, piece by piece; special tokens are left out.

    A character whose bytes are spread over several tokens comes with its last one. All pieces together are what
    decoding all ids at once yields.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        self._stream = DecodeStream(skip_special_tokens=True)
        self._ids: list[int] = []
        self._chars = 0  # of text given out

    @property
    def tokens(self) -> int:
        """Ids taken so far."""
        return len(self._ids)

    def feed(self, ids: Sequence[int], final: bool = False) -> str:
        """Take new ids and return the text that is complete now; with ``final`` also a character that broke off."""
        self._ids.extend(ids)
        backend = self._tokenizer.backend_tokenizer
        text = "".join(self._stream.step(backend, token) or "" for token in ids)
        self._chars += len(text)
        if final:
            text += str(self._tokenizer.decode(self._ids, skip_special_tokens=True))[self._chars :]
        return text
