"""Small models for the engines' tests: made once per session, random or trained for some steps on a regular text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

VOCAB, CONTEXT, EOS = 512, 256, 2


def random_llama(folder: Path, **changes: Any) -> Any:
    """A Llama of 0.4M parameters with seeded random weights, saved as safetensors; returns the model."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    settings: dict[str, Any] = dict(
        vocab_size=VOCAB, hidden_size=96, intermediate_size=256, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=CONTEXT, tie_word_embeddings=True, pad_token_id=0,
        bos_token_id=1, eos_token_id=EOS, initializer_range=0.06,
    )  # fmt: skip
    torch.set_num_threads(1)  # on a busy machine, threads that wait for each other cost twenty times the work
    torch.manual_seed(5)
    model = LlamaForCausalLM(LlamaConfig(**(settings | changes))).eval()
    model.save_pretrained(folder)
    return model


def train(model: Any, steps: int = 100) -> float:
    """Teach the model the beginning of the licence, byte by byte (ids 3 to 258); returns the last loss."""
    import torch

    words = (Path(__file__).parents[3] / "LICENSE").read_text().split()
    ids = torch.tensor(text_ids(" ".join(words)[:600]))
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3)
    source = torch.Generator().manual_seed(0)
    model.train()
    loss = torch.tensor(0.0)
    for _ in range(steps):
        starts = torch.randint(0, len(ids) - 64, (8,), generator=source).tolist()
        batch = torch.stack([ids[s : s + 64] for s in starts])
        loss = model(input_ids=batch, labels=batch).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.eval()
    return float(loss.detach())


def text_ids(text: str) -> list[int]:
    """The prompt the trained model understands."""
    return [byte + 3 for byte in text.encode()]


def greedy(model: Any, prompt: list[int], new_tokens: int) -> list[int]:
    """Greedy continuation by transformers, recomputed from scratch for every token: no cache to go wrong."""
    import torch

    ids = list(prompt)
    with torch.inference_mode():
        for _ in range(new_tokens):
            ids.append(int(model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
    return ids[len(prompt) :]
