"""Adapters: they learn alone, merge into the same function, load in peft, and know their base."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cluster.core.errors import BadInputError, IncompatibleError
from cluster.core.records import Manifest
from cluster.core.storage import Store
from tests.train_jobs.models.test_hugging_face import CONFIGS, _one_thread, some_ids  # noqa: F401
from train_jobs.models.hugging_face import HuggingFaceSpec
from train_jobs.models.lora import LoraSpec, adapted, merged
from train_jobs.models.shape import Shape
from train_jobs.models.spec import LlamaSpec, ModelSpec, spec_from
from train_jobs.models.weights import weight_files

pytestmark = pytest.mark.process

BASES = {
    "own": lambda: LlamaSpec(Shape(vocab=97, hidden=32, layers=2, heads=4, kv_heads=2, mlp=48, context=64)),
    "gpt2": lambda: HuggingFaceSpec.of(CONFIGS["gpt2"]),
    "llama": lambda: HuggingFaceSpec.of(CONFIGS["llama"]),
}


def publish_base(store: Store, spec: ModelSpec, seed: int, name: str = "base") -> Manifest:
    state = {key: weight.detach() for key, weight in spec.build(seed).named_parameters()}
    folder = store.staging(f"{name}-{seed}")
    store.write(f"{folder}/config.json", json.dumps(spec.config(1, 2, 0)).encode())
    for file, body in weight_files(spec.to_hugging_face(state), limit=20_000):
        store.write(f"{folder}/{file}", body)
    return store.publish("checkpoints", name, folder, run_key=f"{name}-{seed}")


def publish_adapter(store: Store, spec: LoraSpec, state: dict[str, Any], name: str) -> Manifest:
    folder = store.staging(name)
    for file, body in spec.adapter_files(state).items():
        store.write(f"{folder}/{file}", body)
    return store.publish("adapters", name, folder, run_key=name)


def trained(spec: LoraSpec, seed: int, steps: int = 6) -> Any:
    """A network whose adapters took a few steps."""
    import torch

    network, ids = spec.build(5), some_ids(2, 12, seed)
    optimizer = torch.optim.AdamW([w for w in network.parameters() if w.requires_grad], lr=0.02)
    losses = []
    for _ in range(steps):
        loss = network(ids[:, :-1], None, targets=ids[:, 1:].reshape(-1))
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < losses[0]
    return network.eval()


@pytest.mark.parametrize("name", BASES)
def test_adapters_learn_alone_and_merge_into_the_same_function(name: str, tmp_path: Path, home: Path) -> None:
    import torch

    store, base_spec = Store(str(tmp_path / "store")), BASES[name]()
    base = publish_base(store, base_spec, 5)
    spec = adapted(base_spec, base, rank=4, alpha=8.0, dropout=0.0, targets="all-linear", seed=1)
    assert spec_from(json.loads(json.dumps(spec.to_dict()))) == spec
    before, ids = base_spec.build(5), some_ids(2, 12, 9)
    assert torch.equal(spec.build(5)(ids), before(ids)), "adapters begin by adding nothing"
    network = trained(spec, seed=3)
    state = {key: weight.detach() for key, weight in network.named_parameters()}
    assert all(torch.equal(state[k], w) for k, w in spec.build(5).named_parameters() if not w.requires_grad)
    adapter = publish_adapter(store, spec, state, "one")
    found, weights = merged(store, adapter, base, spec_from)
    whole = found.build()
    whole.load_state_dict(found.from_hugging_face(weights), strict=False)
    torch.testing.assert_close(whole.eval()(ids), network(ids), rtol=0, atol=1e-5)
    assert not torch.allclose(network(ids), before(ids), atol=1e-3)


def test_the_adapter_is_a_folder_that_peft_loads(tmp_path: Path, home: Path) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    store, base_spec = Store(str(tmp_path / "store")), BASES["llama"]()
    base = publish_base(store, base_spec, 5)
    spec = adapted(base_spec, base, rank=4, alpha=8.0, dropout=0.0, targets="q_proj,v_proj", seed=1)
    network = trained(spec, seed=3)
    adapter = publish_adapter(store, spec, dict(network.named_parameters()), "one")
    plain = AutoModelForCausalLM.from_pretrained(store.artefact(base))
    theirs = PeftModel.from_pretrained(plain, store.artefact(adapter)).eval()
    ids = some_ids(2, 12, 9)
    with torch.no_grad():
        torch.testing.assert_close(theirs(input_ids=ids).logits, network(ids), rtol=0, atol=1e-5)


def test_several_adapters_on_one_base_and_none_on_another(tmp_path: Path, home: Path) -> None:
    store, base_spec = Store(str(tmp_path / "store")), BASES["own"]()
    base, foreign = publish_base(store, base_spec, 5), publish_base(store, base_spec, 6, "other")
    spec = adapted(base_spec, base, rank=2, alpha=4.0, dropout=0.0, targets="all-linear", seed=1)
    adapters = [publish_adapter(store, spec, dict(trained(spec, n).named_parameters()), f"a{n}") for n in (1, 2)]
    first, second = (merged(store, adapter, base, spec_from)[1] for adapter in adapters)
    assert any(not first[key].equal(second[key]) for key in first)
    other = adapted(base_spec, foreign, 2, 4.0, 0.0, "all-linear", 1).base_sha256
    with pytest.raises(IncompatibleError, match=rf"{spec.base_sha256[:16]}.*{other[:16]}"):
        merged(store, adapters[0], foreign, spec_from)


def test_targets_that_the_model_has_not_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=r"nothing_proj.*q_proj"):
        LoraSpec(BASES["own"](), 2, 4.0, targets="q_proj,nothing_proj").build(device="meta")
