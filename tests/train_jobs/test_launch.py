"""What the training stages refuse before anything is started, and which runs are the same run."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cluster.core.config import PlinthConfig
from cluster.core.errors import (
    BadInputError,
    IncompatibleError,
    IntegrityError,
    PolicyRefusedError,
    UnsupportedError,
    UsageError,
)
from cluster.core.progress import Silent
from cluster.core.records import Manifest
from cluster.core.storage import Store
from tests.train_jobs.corpora import SECTION, documents, flip_a_bit, make_dataset, make_examples
from train_jobs import launch
from train_jobs.data.tokenizer import train_tokenizer
from train_jobs.models.shape import Shape

CONFIG = PlinthConfig(train=SECTION)


class Idle:
    """A group of workers that nobody should have asked for."""

    size = 1

    def carry_out(self, plan: Any, progress: Any) -> None:
        raise AssertionError(f"started {plan.run_id}")


@pytest.fixture
def store(home, tmp_path) -> Store:
    return Store(str(tmp_path / "store"))


@pytest.fixture
def tokenizer(store: Store) -> Manifest:
    return train_tokenizer(CONFIG, store, make_dataset(store), Silent())


def make_base(store: Store, tokenizer: Manifest, **config: Any) -> Manifest:
    """A published checkpoint as far as it is looked at before training starts."""
    folder = store.staging(f"base-{len(config)}")
    size = tokenizer.counts["tokens"]
    shape = Shape.of(SECTION, size)
    store.write(f"{folder}/config.json", json.dumps({**shape.to_hugging_face(1, 2, 0), **config}).encode())
    store.write(f"{folder}/model.safetensors", b"weights")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        store.write(f"{folder}/{name}", store.read(f"{store.artefact(tokenizer)}/{name}"))
    inputs = {"tokenizer": f"{tokenizer.name}@{tokenizer.version}"}
    return store.publish("checkpoints", "tiny-base", folder, run_key=f"base-{len(config)}", inputs=inputs)


def pretrain(store: Store, dataset: Manifest, tokenizer: Manifest, config: PlinthConfig = CONFIG) -> Manifest:
    return launch.pretrain(config, store, dataset, tokenizer, Silent(), workers=Idle())


def finetune(store: Store, base: Manifest, examples: Manifest) -> Manifest:
    return launch.finetune(CONFIG, store, base, examples, Silent(), workers=Idle())


def test_too_few_documents_are_refused_before_anything_starts(store: Store, tokenizer: Manifest) -> None:
    with pytest.raises(BadInputError, match="too few to train on"):
        pretrain(store, make_dataset(store, documents(3), "few"), tokenizer)


def test_sizes_that_do_not_divide_are_refused_before_anything_starts(store: Store, tokenizer: Manifest) -> None:
    config = PlinthConfig(train=SECTION.model_copy(update={"heads": 3, "kv_heads": 1}))
    with pytest.raises(UsageError, match=r"train\.heads=3"):
        pretrain(store, make_dataset(store), tokenizer, config)


def test_a_damaged_tokenizer_is_refused(store: Store, tokenizer: Manifest) -> None:
    flip_a_bit(f"{store.artefact(tokenizer)}/tokenizer.json")
    with pytest.raises(IntegrityError):
        pretrain(store, make_dataset(store), tokenizer)


def test_examples_of_another_tokenizer_are_refused(store: Store, tokenizer: Manifest) -> None:
    other = train_tokenizer(CONFIG, store, make_dataset(store, documents(80, seed=5), "other"), Silent())
    assert other.version != tokenizer.version
    with pytest.raises(IncompatibleError, match=f"{other.version}.*{tokenizer.version}"):
        finetune(store, make_base(store, tokenizer), make_examples(store, other))


@pytest.mark.process
@pytest.mark.parametrize("change", [{"model_type": "mamba9"}, {"auto_map": {"AutoModelForCausalLM": "mamba9.Model"}}])
def test_an_unknown_architecture_is_refused_by_name(store: Store, tokenizer: Manifest, change: dict[str, Any]) -> None:
    with pytest.raises((UnsupportedError, PolicyRefusedError), match=r"mamba9|auto_map"):
        finetune(store, make_base(store, tokenizer, **change), make_examples(store, tokenizer))


def test_a_base_with_another_vocabulary_than_its_tokenizer_is_refused(store: Store, tokenizer: Manifest) -> None:
    base = make_base(store, tokenizer, vocab_size=9999)
    with pytest.raises(IncompatibleError, match="9999 embeddings"):
        finetune(store, base, make_examples(store, tokenizer))


@pytest.mark.parametrize("file", ["model.safetensors", "config.json", "tokenizer.json"])
def test_a_damaged_base_is_refused(store: Store, tokenizer: Manifest, file: str) -> None:
    base = make_base(store, tokenizer)
    flip_a_bit(f"{store.artefact(base)}/{file}")
    with pytest.raises(IntegrityError):
        finetune(store, base, make_examples(store, tokenizer))


def test_examples_that_all_exceed_the_context_are_refused(store: Store, tokenizer: Manifest) -> None:
    base = make_base(store, tokenizer, max_position_embeddings=4)
    with pytest.raises(BadInputError, match="fits a context of 4 tokens"):
        finetune(store, base, make_examples(store, tokenizer))


class Noting(Idle):
    """Notes the plans it is given and then behaves like a run that was stopped."""

    def __init__(self) -> None:
        self.plans: list[Any] = []

    def carry_out(self, plan: Any, progress: Any) -> None:
        self.plans.append(plan)
        raise KeyboardInterrupt


def run_id(store: Store, dataset: Manifest, tokenizer: Manifest, seconds: float | None = None, **train: Any) -> str:
    workers, config = Noting(), PlinthConfig(train=SECTION.model_copy(update=train))
    with pytest.raises(KeyboardInterrupt):
        launch.pretrain(config, store, dataset, tokenizer, Silent(), seconds, workers)
    return workers.plans[0].run_id


def test_a_run_is_told_by_inputs_and_configuration_not_by_its_seconds(store: Store, tokenizer: Manifest) -> None:
    dataset = make_dataset(store)
    first = run_id(store, dataset, tokenizer)
    assert run_id(store, dataset, tokenizer, seconds=5.0) == first
    assert run_id(store, dataset, tokenizer, minutes=9.0, checkpoint_s=3.0, workers=1) == first
    changed = [{"learning_rate": 0.5}, {"seed": 1}, {"layers": 1}, {"steps": 7}, {"held_out": 0.3}]
    others = [run_id(store, dataset, tokenizer, **change) for change in changed]
    others.append(run_id(store, make_dataset(store, documents(150, 8)), tokenizer))
    assert len({first, *others}) == 1 + len(others)
