"""Greedy generation in this process with transformers, from a Hugging Face folder: for evaluation, not for serving."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from cluster.core.errors import BadInputError

NEW_TOKENS = 8  # a few sentence ids and the end: what a pointing model writes


class Said(NamedTuple):
    """A completion, and the probability that the model gave it (all its tokens), None where that is not known."""

    text: str
    probability: float | None = None


Generate = Callable[[list[str]], list[Said]]


def load_causal(folder: Path, threads: int) -> tuple[Any, Any, int]:
    """Tokenizer and model of a Hugging Face folder, and the id to pad with; sets torch's threads for this process.

    Raises:
        BadInputError: the folder holds no model that transformers can load without running its code.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
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
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id or 0
    return tokenizer, model, pad


def load_generator(folder: Path, threads: int, new_tokens: int = NEW_TOKENS) -> Generate:
    """Prompt texts to completions (special tokens kept, padding not), each at most ``new_tokens`` long.

    Prompts of one call are one batch, padded on the left.

    Raises:
        BadInputError: as ``load_causal``.
    """
    import torch
    from transformers import GenerationConfig

    tokenizer, model, pad = load_causal(folder, threads)
    settings = GenerationConfig(
        max_new_tokens=new_tokens, do_sample=False, pad_token_id=pad, eos_token_id=tokenizer.eos_token_id,
        output_logits=True, return_dict_in_generate=True,
    )  # fmt: skip
    tokenizer.padding_side = "left"
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token

    def generate(prompts: list[str]) -> list[Said]:
        batch = tokenizer(prompts, return_tensors="pt", padding=True, add_special_tokens=False)
        with torch.inference_mode():
            made = model.generate(
                input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], generation_config=settings
            )
            said = made.sequences[:, batch["input_ids"].shape[1] :]
            logs = torch.stack(made.logits, dim=1).float().log_softmax(-1).gather(-1, said[:, :, None]).squeeze(-1)
            ends = (said == tokenizer.eos_token_id).cumsum(1)
            logs = logs.masked_fill(
                ends - (said == tokenizer.eos_token_id).long() > 0, 0.0
            )  # what stands after the end
        texts = tokenizer.batch_decode(said, skip_special_tokens=False)
        if pad != tokenizer.eos_token_id:
            texts = [text.replace(tokenizer.pad_token, "") for text in texts]
        return [Said(text, chance) for text, chance in zip(texts, logs.sum(dim=1).exp().tolist(), strict=True)]

    return generate
