"""Somebody else's model as a base: through the launch of fine-tuning, as adapters too, to a folder that loads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cluster.core.config import PlinthConfig
from cluster.core.errors import IncompatibleError
from cluster.core.progress import Silent
from cluster.core.records import Manifest
from cluster.core.storage import Store
from tests.train_jobs.corpora import SECTION, make_dataset, make_examples
from tests.train_jobs.publishing.model_folders import gpt2, llama
from train_jobs import launch
from train_jobs.data.tokenizer import train_tokenizer
from train_jobs.distributed.ranks import Ranks
from train_jobs.publishing.base import take_base
from train_jobs.publishing.model_folder import inspect

pytestmark = pytest.mark.process

CONFIG = PlinthConfig(train=SECTION.model_copy(update={"steps": 12, "learning_rate": 1e-2}))
MAKE = {"llama": llama, "gpt2": gpt2}


class Here:
    """One training worker in this process."""

    size = 1

    def carry_out(self, plan: Any, progress: Any) -> None:
        from train_jobs.trainer import loop
        from train_jobs.trainer.plan import RunPlan

        loop.run(RunPlan.from_dict(plan.to_dict()), Ranks(0, 1, 1))


@pytest.fixture
def store(home: Path, tmp_path: Path) -> Store:
    return Store(str(tmp_path / "store"))


def base_of(store: Store, tmp_path: Path, name: str) -> tuple[Manifest, Manifest]:
    base = take_base(CONFIG, store, inspect(MAKE[name](tmp_path / name)), {"source": name}, Silent())
    reference = base.inputs["tokenizer"].partition("@")
    return base, store.manifest("tokenizers", reference[0], reference[2])


def tuned(store: Store, base: Manifest, examples: Manifest, **train: Any) -> Manifest:
    config = PlinthConfig(train=CONFIG.train.model_copy(update=train))
    return launch.finetune(config, store, base, examples, Silent(), workers=Here())


@pytest.mark.parametrize("name", MAKE)
@pytest.mark.slow
@pytest.mark.ci
def test_fine_tuning_a_model_of_others_gives_a_folder_that_transformers_loads(
    name: str, store: Store, tmp_path: Path
) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    base, tokenizer = base_of(store, tmp_path, name)
    original = AutoModelForCausalLM.from_pretrained(tmp_path / name)
    taken = AutoModelForCausalLM.from_pretrained(store.artefact(base))
    ids = torch.arange(3, 40)[None]
    torch.testing.assert_close(
        taken(input_ids=ids).logits[..., :260], original(input_ids=ids).logits[..., :260], rtol=1e-5, atol=1e-6
    )
    made = tuned(store, base, make_examples(store, tokenizer))
    facts = store.read_json(f"{store.artefact(made)}/training.json")
    assert facts["held_out_loss"] < facts["held_out_loss_at_start"]
    model = AutoModelForCausalLM.from_pretrained(store.artefact(made))
    assert type(model) is type(original)
    loaded = AutoTokenizer.from_pretrained(store.artefact(made))
    assert len(loaded("<|question|><|answer|>").input_ids) == 2
    assert (loaded.eos_token, model.config.eos_token_id) == ("<|eos|>", loaded.eos_token_id)
    assert model.get_input_embeddings().weight.shape[0] >= len(loaded)


@pytest.mark.slow
@pytest.mark.ci
def test_adapters_are_published_beside_the_merged_model(store: Store, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    base, tokenizer = base_of(store, tmp_path, "llama")
    examples = make_examples(store, tokenizer)
    made = tuned(store, base, examples, lora_rank=4, learning_rate=0.1)
    facts = store.read_json(f"{store.artefact(made)}/training.json")
    assert facts["held_out_loss"] < facts["held_out_loss_at_start"]
    name, _, version = made.inputs["adapter"].partition("@")
    adapter = store.manifest("adapters", name, version)
    assert {entry.path for entry in adapter.files} == {
        "adapter_config.json",
        "adapter_model.safetensors",
        "adapter.json",
    }
    before, after = (load_file(f"{store.artefact(m)}/model.safetensors") for m in (base, made))
    changed = {key.rpartition(".weight")[0].rpartition(".")[2] for key in before if not before[key].equal(after[key])}
    assert changed == {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}


def test_examples_of_another_tokenizer_are_refused_with_both_hashes(store: Store, tmp_path: Path) -> None:
    base, tokenizer = base_of(store, tmp_path, "llama")
    other = train_tokenizer(CONFIG, store, make_dataset(store), Silent())
    theirs, ours = (next(e.sha256 for e in m.files if e.path == "tokenizer.json")[:12] for m in (other, tokenizer))
    with pytest.raises(IncompatibleError, match=f"{theirs}.*{ours}"):
        tuned(store, base, make_examples(store, other))


def test_the_same_base_is_taken_once(store: Store, tmp_path: Path) -> None:
    one, _ = base_of(store, tmp_path, "llama")
    two = take_base(CONFIG, store, inspect(tmp_path / "llama"), {"source": "llama"}, Silent())
    assert one == two


def test_another_architecture_is_pretrained_from_its_config(store: Store, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    dataset = make_dataset(store)
    tokenizer = train_tokenizer(CONFIG, store, dataset, Silent())
    config = PlinthConfig(train=CONFIG.train.model_copy(update={"model": str(gpt2(tmp_path / "gpt2")), "steps": 6}))
    made = launch.pretrain(config, store, dataset, tokenizer, Silent(), workers=Here())
    assert made.counts["held_out_loss"] < 6.2
    model = AutoModelForCausalLM.from_pretrained(store.artefact(made))
    assert type(model).__name__ == "GPT2LMHeadModel"
    assert model.config.vocab_size == tokenizer.counts["tokens"]
