"""The published language model that a recipe goes on from, and the folder of what came of it."""

from __future__ import annotations

import json
import posixpath
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cluster.core.errors import BadInputError
from cluster.core.records import Manifest
from cluster.core.sections.train import TrainSection
from cluster.core.storage import Store
from train_jobs.models.lora import adapted
from train_jobs.models.spec import ModelSpec, spec_of_config
from train_jobs.models.weights import weight_files
from train_jobs.publishing.artefact import METRICS, TRAINING

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from train_jobs.recipes.training import Finished

TOKENIZER, TOKENIZER_CONFIG, TEMPLATE = "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"
OWN = (METRICS, TRAINING, "manifest.json")  # of each run


@dataclass(frozen=True)
class LanguageModel:
    """A verified checkpoint.

    Attributes:
        manifest: of it; model: its shape; tokenizer: its own; pad, eos: ids.
    """

    manifest: Manifest
    model: ModelSpec
    tokenizer: Tokenizer
    pad: int
    eos: int

    @property
    def reference(self) -> str:
        """NAME@VERSION."""
        return f"{self.manifest.name}@{self.manifest.version}"

    def learning(self, section: TrainSection) -> ModelSpec:
        """What is trained: all of its weights, or adapters on them (``train.lora_rank``)."""
        if not section.lora_rank:
            return self.model
        lora = (section.lora_rank, section.lora_alpha, section.lora_dropout, section.lora_targets)
        return adapted(self.model, self.manifest, *lora, section.seed)

    def settings(self, store: Store) -> dict[str, Any]:
        """Its tokenizer_config.json, with the chat template that stands in a file of its own."""
        folder = store.artefact(self.manifest)
        path, beside = posixpath.join(folder, TOKENIZER_CONFIG), posixpath.join(folder, TEMPLATE)
        found = dict(store.read_json(path)) if store.exists(path) else {}
        return found | ({"chat_template": store.read(beside).decode()} if store.exists(beside) else {})


def open_model(store: Store, manifest: Manifest, context: int = 0) -> LanguageModel:
    """The model of a checkpoint artefact.

    Args:
        context: the longest row that it is to learn from, where that is less than it reads.

    Raises:
        IntegrityError: a file does not match the manifest.
        BadInputError: an architecture that cannot be trained, or no tokenizer.
    """
    from tokenizers import Tokenizer

    store.verify(manifest)
    folder = store.artefact(manifest)
    if not store.exists(posixpath.join(folder, TOKENIZER)):
        raise BadInputError(f"{manifest.name}@{manifest.version} has no {TOKENIZER}: a fast tokenizer is needed")
    config = store.read_json(posixpath.join(folder, "config.json"))
    tokenizer = Tokenizer.from_str(store.read(posixpath.join(folder, TOKENIZER)).decode())
    tokenizer.no_padding()
    tokenizer.no_truncation()
    eos = config.get("eos_token_id")
    eos = int((eos[0] if isinstance(eos, list) else eos) or 0)
    pad = config.get("pad_token_id")
    return LanguageModel(manifest, spec_of_config(config, context), tokenizer, eos if pad is None else int(pad), eos)


def files_of(
    finished: Finished, store: Store, base: LanguageModel, changed: dict[str, bytes] | None = None
) -> dict[str, bytes]:
    """A folder like the base's with the new weights; ``changed`` are files that differ from the base's."""
    folder = store.artefact(base.manifest)
    kept = [
        entry.path
        for entry in base.manifest.files
        if entry.path not in OWN and ".safetensors" not in entry.path and "/" not in entry.path
    ]
    weights = dict(weight_files(finished.plan.model.to_hugging_face(finished.weights)))
    return {
        **{name: store.read(posixpath.join(folder, name)) for name in kept}, **weights,
        **(changed or {}),
    }  # fmt: skip


def as_json(value: Any) -> bytes:
    """Plain JSON with line breaks."""
    return json.dumps(value, indent=1).encode()
