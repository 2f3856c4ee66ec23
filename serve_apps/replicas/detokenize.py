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
    decoding all ids at once yields; only where a model with byte fallback writes bytes that are no text may the marks
    in their place (U+FFFD) be others.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        self._stream = DecodeStream(skip_special_tokens=True)
        self._open: list[int] = []  # ids whose text is not complete yet
        self.tokens = 0  # ids taken so far

    def feed(self, ids: Sequence[int], final: bool = False) -> str:
        """Take new ids and return the text that is complete now; with ``final`` also a character that broke off."""
        text = ""
        for token in ids:
            self._open.append(token)
            if piece := self._step(token):
                text += piece
                self._open.clear()
        self.tokens += len(ids)
        if final and self._open:
            text += str(self._tokenizer.decode(self._open, skip_special_tokens=True))
        return text

    def _step(self, token: int) -> str | None:
        backend = self._tokenizer.backend_tokenizer
        try:
            return self._stream.step(backend, token)
        except Exception as error:
            if "Invalid prefix" not in str(error):  # the library's only sign of it
                raise
        # Bytes that turn what came before them into no text: it is said already, so decoding starts anew behind it.
        self._stream = DecodeStream(skip_special_tokens=True)
        return self._stream.step(backend, token)
