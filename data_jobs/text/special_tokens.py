"""What looks like a control token in a text is text.

A tokenizer finds the strings of its special tokens in whatever it is given: a document that explains ``<|eos|>`` would
end there, and a request could write turns of its own. Control tokens are put in by code, as ids; texts of documents and
people go through a tokenizer that ``reads_as_text``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tokenizers import Tokenizer


def reads_as_text(tokenizer: Tokenizer) -> Tokenizer:
    """The same tokenizer, which from now on encodes the strings of all its added tokens as ordinary letters."""
    # Only tokens that are marked as special are left out, and published files do not mark all of them.
    tokenizer.add_special_tokens([token.content for token in tokenizer.get_added_tokens_decoder().values()])
    tokenizer.encode_special_tokens = True
    return tokenizer
