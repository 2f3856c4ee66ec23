"""A tiny BERT folder with random weights, as an encoder to start from."""

from __future__ import annotations

import json
from pathlib import Path

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def make_encoder(folder: Path, words: set[str], hidden: int = 32) -> str:
    """A folder with an encoder whose tokens are whole words."""
    from safetensors.torch import save_file
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    from train_jobs.models.encoders import EncoderSpec

    vocab = {word: number for number, word in enumerate((*SPECIAL, *sorted(words)))}
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.add_special_tokens(list(SPECIAL))
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    settings = {"model_type": "bert", "vocab_size": len(vocab), "hidden_size": hidden, "num_attention_heads": 2,
                "num_hidden_layers": 2, "intermediate_size": 2 * hidden, "max_position_embeddings": 64,
                "pad_token_id": 0, "initializer_range": 0.2}  # fmt: skip
    folder.mkdir(parents=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "config.json").write_text(json.dumps(settings))
    weights = {n: w.detach().contiguous() for n, w in EncoderSpec(settings).build(5).named_parameters()}
    save_file(weights, folder / "model.safetensors")
    return str(folder)


def words_of(texts: list[str]) -> set[str]:
    return {word for text in texts for word in text.split()}
