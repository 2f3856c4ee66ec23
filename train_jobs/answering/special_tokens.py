"""The special tokens of the prompt. They stand alone here, so that a tokenizer depends on them and on nothing else of
how questions are answered: a change of the answers does not train every model again."""

from __future__ import annotations

PAD, BOS, EOS = "<|pad|>", "<|bos|>", "<|eos|>"
QUESTION, PASSAGE, ANSWER, NONE = "<|question|>", "<|passage|>", "<|answer|>", "<|none|>"
SENTENCES = tuple(f"<|s{n}|>" for n in range(16))
EVIDENCE = tuple(f"<|e{n}|>" for n in range(16))
SUPPORT = tuple(f"<|c{n}|>" for n in range(10))
MATCH = tuple(f"<|p{n}|>" for n in range(16))
FIRST = "<|first|>"

# Every tokenizer of ours has them, first and in this order, each as one id: a token's place here is its id.
SPECIAL_TOKENS = (PAD, BOS, EOS, QUESTION, PASSAGE, ANSWER, NONE, *SENTENCES, *EVIDENCE, *SUPPORT, *MATCH, FIRST)
