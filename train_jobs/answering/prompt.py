"""The prompt of a model of our own: special tokens, how question and evidence are laid out, how its words are read back."""

from __future__ import annotations

PAD, BOS, EOS = "<|pad|>", "<|bos|>", "<|eos|>"
QUESTION, PASSAGE, ANSWER, NONE = "<|question|>", "<|passage|>", "<|answer|>", "<|none|>"
SENTENCES = tuple(f"<|s{n}|>" for n in range(16))
EVIDENCE = tuple(f"<|e{n}|>" for n in range(16))
SUPPORT = tuple(f"<|c{n}|>" for n in range(10))

# Every tokenizer of ours has them, first and in this order, each as one id.
SPECIAL_TOKENS = (PAD, BOS, EOS, QUESTION, PASSAGE, ANSWER, NONE, *SENTENCES, *EVIDENCE, *SUPPORT)
