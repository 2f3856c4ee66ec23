"""The encoder that a recipe starts from, with the files that go along with it into what is published."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cluster.core.home import Home
from cluster.core.sections.data import IndexSection
from cluster.core.storage import Store
from data_jobs.retrieval.model_files import ModelFiles, find_model

if TYPE_CHECKING:
    from torch import Tensor

    from train_jobs.models.encoders import EncoderSpec

KIND = "embedders"
# Beside weights and tokenizer, what sentence-transformers and ``model_files`` read.
FILES = (
    "config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt", "modules.json",
    "sentence_bert_config.json", "config_sentence_transformers.json", "1_Pooling/config.json",
)  # fmt: skip


@dataclass(frozen=True)
class EncoderFolder:
    """A checked encoder.

    Attributes:
        files: its parts; folder: where they are.
        reference: what it is called in the inputs of a run.
    """

    files: ModelFiles
    folder: Path
    reference: str

    @property
    def pad(self) -> int:
        """The id of the padding token."""
        return int(self.files.config.get("pad_token_id") or 0)

    def weights(self, spec: EncoderSpec) -> dict[str, Tensor]:
        """Its weights for a network of ``spec``; those of a head that it does not have are random."""
        from safetensors.torch import load_file

        tensors = {name.removeprefix("bert."): t for name, t in load_file(self.files.weights).items()}
        first = dict(spec.build(0).named_parameters())
        return {
            name: (tensors[name] if name in tensors else weight.detach()).float().contiguous()
            for name, weight in first.items()
        }

    def bodies(self) -> dict[str, bytes]:
        """The files that go along, by name."""
        return {name: (self.folder / name).read_bytes() for name in FILES if (self.folder / name).is_file()}


def find_encoder(store: Store, base: str) -> EncoderFolder:
    """``minilm``, a published embedder (NAME or NAME@VERSION), a folder, or a hub's id.

    Raises:
        PlinthError: as ``find_model``; also where a published one is damaged.
    """
    name, _, version = base.partition("@")
    if "/" not in base and base != "minilm" and name in store.names(KIND):
        manifest = store.manifest(KIND, name, version or "latest")
        folder = store.fetch(manifest, Home.from_env().root / "cache")
        return EncoderFolder(
            find_model(IndexSection(embedder=str(folder), document_encoder="same")),
            folder,
            f"{name}@{manifest.version}",
        )
    files = find_model(IndexSection(embedder=base, document_encoder="same"))
    return EncoderFolder(files, files.weights.parent, f"{base}@{files.identity['weights_sha256'][:12]}")


def _alone(name: str) -> ModelFiles:
    """A model without the document encoder that an index would use."""
    return find_model(IndexSection(embedder=name, document_encoder="same"))


def agreement(vectors: Any, others: Any) -> float:
    """The mean cosine of two lists of vectors of length 1, [n, d]."""
    return float((vectors * others).sum(axis=1).mean())
