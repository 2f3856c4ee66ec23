"""Files of a published model as its replica reads them: whatever is wrong with them is refused, and ends no replica."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cluster.core.errors import BadInputError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def read_facts(folder: Path) -> dict[str, Any]:
    """What a published model says of itself.

    Raises:
        BadInputError: its plinth.json is no JSON object.
    """
    path = folder / "plinth.json"
    try:
        facts = json.loads(path.read_bytes())
    except ValueError as error:
        raise BadInputError(f"{path} is no JSON: {error}") from error
    if not isinstance(facts, dict):
        raise BadInputError(f"{path} is no JSON object")
    return facts


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """The tokenizer of a published model.

    Raises:
        BadInputError: there is none that transformers can load.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            str(folder), local_files_only=True, trust_remote_code=False
        )
    except Exception as error:  # tokenizers raises nothing narrower, transformers whatever comes up
        raise BadInputError(f"transformers cannot load the tokenizer in {folder}: {error!r}"[:500]) from error
    return tokenizer
