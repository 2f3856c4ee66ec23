"""Small model folders for tests: by hand (any bytes, no libraries) and real ones made with transformers."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

CONFIG = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 300, "hidden_size": 4,
    "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8, "max_position_embeddings": 64,
}  # fmt: skip
TENSORS = {"model.embed_tokens.weight": (300, 4), "lm_head.weight": (300, 4), "model.norm.weight": (4,)}


def safetensors(tensors: Mapping[str, Sequence[int]], dtype: str = "F32", width: int = 4) -> bytes:
    """A well-formed file of zeros."""
    header, at = {}, 0
    for name, shape in tensors.items():
        size = width
        for n in shape:
            size *= n
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [at, at + size]}
        at += size
    return with_header(json.dumps(header).encode(), b"\0" * at)


def with_header(header: bytes, data: bytes = b"") -> bytes:
    return struct.pack("<Q", len(header)) + header + data


def plain_folder(folder: Path, **files: Any) -> Path:
    """A folder that passes every check. ``files``: name (with __ for a dot) -> text, bytes or JSON; None removes it."""
    folder.mkdir(parents=True, exist_ok=True)
    content: dict[str, Any] = {
        "config.json": CONFIG, "tokenizer.json": {"version": "1.0"}, "tokenizer_config.json": {},
        "model.safetensors": safetensors(TENSORS), "README.md": "---\nlicense: apache-2.0\n---\n# A model\n",
    } | {name.replace("__", "."): value for name, value in files.items()}  # fmt: skip
    for name, value in content.items():
        path = folder / name
        if value is None:
            path.unlink(missing_ok=True)
        elif isinstance(value, bytes):
            path.write_bytes(value)
        else:
            path.write_text(value if isinstance(value, str) else json.dumps(value))
    return folder


def byte_tokenizer(folder: Path, tokens: int = 260, template: str = "") -> None:
    """A byte-level tokenizer with ``tokens`` ids."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = ["<unk>", "<s>", "</s>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    words += [f"<extra{n}>" for n in range(tokens - len(words))]
    tokenizer = Tokenizer(models.BPE({word: n for n, word in enumerate(words[:tokens])}, [], unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", bos_token="<s>", eos_token="</s>")
    if template:
        fast.chat_template = template
    fast.save_pretrained(folder)


def llama(folder: Path, template: str = "", tokens: int = 260, context: int = 256) -> Path:
    """A tiny LlamaForCausalLM with its tokenizer, saved by transformers."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=300, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=context, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    byte_tokenizer(folder, tokens, template)
    return folder


def gpt2(folder: Path) -> Path:
    """A tiny GPT2LMHeadModel, which the converter does not know."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    config = GPT2Config(vocab_size=300, n_embd=32, n_layer=2, n_head=4, n_positions=256, bos_token_id=1, eos_token_id=2)
    GPT2LMHeadModel(config).save_pretrained(folder)
    byte_tokenizer(folder)
    return folder
