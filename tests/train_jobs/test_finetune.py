"""Fine-tuning carried out in this process: what its checkpoints hold, and what it leaves behind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cluster.core.config import PlinthConfig
from cluster.core.progress import Silent
from cluster.core.records import Manifest
from cluster.core.storage import Store
from tests.train_jobs.corpora import SECTION, make_dataset, make_examples
from tests.train_jobs.recipes.in_process import InProcess
from train_jobs import launch
from train_jobs.data.certificate import check
from train_jobs.data.tokenizer import train_tokenizer
from train_jobs.models.shape import Shape
from train_jobs.models.spec import LlamaSpec, spec_from

pytestmark = pytest.mark.process  # torch takes seconds to import


class Looking(InProcess):
    """Looks into the newest checkpoint before it is published."""

    def __init__(self) -> None:
        super().__init__()
        self.manifest: dict[str, Any] = {}

    def carry_out(self, plan: Any, progress: Any) -> None:
        super().carry_out(plan, progress)
        newest = sorted(Path(plan.folder, "checkpoints").iterdir())[-1]
        self.manifest = json.loads((newest / "manifest.json").read_text())


def make_base(store: Store, tokenizer: Manifest) -> Manifest:
    from safetensors.torch import save

    shape, folder = Shape.of(SECTION, tokenizer.counts["tokens"]), store.staging("a-base")
    weights = {name: weight.detach().contiguous() for name, weight in LlamaSpec(shape).build(1).named_parameters()}
    store.write(f"{folder}/config.json", json.dumps(shape.to_hugging_face(1, 2, 0)).encode())
    store.write(f"{folder}/model.safetensors", save(weights, metadata={"format": "pt"}))
    for name in ("tokenizer.json", "tokenizer_config.json"):
        store.write(f"{folder}/{name}", store.read(f"{store.artefact(tokenizer)}/{name}"))
    inputs = {"tokenizer": f"{tokenizer.name}@{tokenizer.version}"}
    return store.publish("checkpoints", "tiny-base", folder, run_key="a-base", inputs=inputs)


def test_adapters_are_saved_without_their_base_and_published_merged_with_a_certificate(
    home: Path, tmp_path: Path
) -> None:
    import torch
    from safetensors.torch import load_file

    from train_jobs.models.lora import merged
    from train_jobs.models.weights import fingerprint, weight_hashes

    del home
    store = Store(str(tmp_path / "store"))
    config = PlinthConfig(train=SECTION.model_copy(update={"steps": 6, "lora_rank": 2}))
    tokenizer = train_tokenizer(config, store, make_dataset(store), Silent())
    base, workers = make_base(store, tokenizer), Looking()
    made = launch.finetune(config, store, base, make_examples(store, tokenizer), Silent(), workers=workers)
    held = {name.removeprefix("model/") for name in workers.manifest["tensors"] if name.startswith("model/")}
    assert held
    assert all(".lora_" in name for name in held)
    assert workers.manifest["base_sha256"] == fingerprint(weight_hashes(base))
    adapter = store.manifest("adapters", "tiny", "latest")
    _, wanted = merged(store, adapter, base, spec_from)
    found = load_file(f"{store.artefact(made)}/model.safetensors")
    before = load_file(f"{store.artefact(base)}/model.safetensors")
    assert found.keys() == before.keys() == wanted.keys()
    assert all(torch.allclose(found[name], wanted[name], atol=1e-6) for name in found)
    assert any(not torch.equal(found[name], before[name]) for name in found)
    certificate = store.read_json(f"{store.artefact(made)}/order.json")
    assert check(certificate) == []
    assert certificate["steps"] == 6
    assert certificate["corpora"][0]["dataset"] == made.inputs["examples"]
