"""Greedy generation in this process with transformers, from a Hugging Face folder: for evaluation, not for serving."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from cluster.core.errors import BadInputError

NEW_TOKENS = 8  # a few sentence ids and the end: what a pointing model writes


def load_generator(folder: Path, threads: int, new_tokens: int = NEW_TOKENS) -> Callable[[list[str]], list[str]]:
    """Prompt texts to completion texts (special tokens kept, padding not), each at most ``new_tokens`` long.

    Prompts of one call are one batch, padded on the left. Sets torch's threads for this process.

    Raises:
        BadInputError: the folder holds no model that transformers can load without running its code.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig
    from transformers.utils import logging

    logging.disable_progress_bar()  # the terminal has one of ours
    torch.set_num_threads(threads)
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
        model: Any = AutoModelForCausalLM.from_pretrained(
            str(folder), local_files_only=True, trust_remote_code=False, dtype=torch.float32
        )
    except (OSError, ValueError) as error:
        raise BadInputError(f"{folder} holds no model that can be loaded: {error}", path=str(folder)) from error
    model.eval()
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    settings = GenerationConfig(
        max_new_tokens=new_tokens, do_sample=False, pad_token_id=pad, eos_token_id=tokenizer.eos_token_id
    )
    tokenizer.padding_side = "left"
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token

    def generate(prompts: list[str]) -> list[str]:
        batch = tokenizer(prompts, return_tensors="pt", padding=True, add_special_tokens=False)
        with torch.inference_mode():
            made = model.generate(
                input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], generation_config=settings
            )
        texts = tokenizer.batch_decode(made[:, batch["input_ids"].shape[1] :], skip_special_tokens=False)
        return [text.replace(tokenizer.pad_token, "") if pad != tokenizer.eos_token_id else text for text in texts]

    return generate
