"""What the training stages refuse before anything is started, and which runs are the same run."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import numpy as np
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
from data_jobs.corpus.splits import is_held_out
from data_jobs.governance.tombstones import add_tombstone
from tests.train_jobs.corpora import SECTION, documents, flip_a_bit, make_dataset, make_examples
from train_jobs import launch
from train_jobs.data.corpora import Ingredient, open_windows, parse_epochs, parse_weights
from train_jobs.data.tokenizer import load_tokenizer, train_tokenizer
from train_jobs.models.shape import Shape
from train_jobs.models.spec import LlamaSpec

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


# -- token shards ------------------------------------------------------------------------------------------------------
def plan_of(store: Store, data: Any, tokenizer: Manifest, **train: Any) -> Any:
    workers, config = Noting(), PlinthConfig(train=SECTION.model_copy(update=train))
    with pytest.raises(KeyboardInterrupt):
        launch.pretrain(config, store, data, tokenizer, Silent(), workers=workers)
    return workers.plans[0]


def test_pretraining_makes_the_tokens_that_its_workers_read_once(store: Store, tokenizer: Manifest) -> None:
    dataset = make_dataset(store)
    first, again = (plan_of(store, dataset, tokenizer) for _ in range(2))
    (made,) = store.versions("tokens", "manual")
    assert made.inputs == {"dataset": f"manual@{dataset.version}", "tokenizer": f"tiny@{tokenizer.version}"}
    assert first.options == again.options
    assert [entry["tokens"] for entry in first.options["corpora"]] == [f"manual@{made.version}"]
    assert first.data == ""
    train, held_out = open_windows(first, store)
    coder = load_tokenizer(store, tokenizer)
    texts = {
        side: coder.decode(windows.streams[0].rows(np.array([0]), len(windows.streams[0]))[0].tolist())
        for side, windows in (("train", train), ("held_out", held_out))
    }
    for document in documents():
        held = is_held_out(document.id, SECTION.held_out)
        said = f"{document.id}\n{document.title}\n{document.text}"
        assert (said in texts["train"]) != held
        assert (said in texts["held_out"]) == held


def test_what_was_forgotten_is_not_trained_on(store: Store, tokenizer: Manifest) -> None:
    dataset = make_dataset(store)
    gone = next(d.id for d in documents() if not is_held_out(d.id, SECTION.held_out))
    before = plan_of(store, dataset, tokenizer)
    add_tombstone(store, document=gone)
    after = plan_of(store, dataset, tokenizer)
    assert after.run_id != before.run_id  # half of a run that saw it is not gone on with
    stream = open_windows(after, store)[0].streams[0]
    assert gone not in load_tokenizer(store, tokenizer).decode(stream.rows(np.array([0]), len(stream))[0].tolist())


def test_forgetting_what_is_in_another_dataset_changes_no_run(store: Store, tokenizer: Manifest) -> None:
    dataset = make_dataset(store)
    before = plan_of(store, dataset, tokenizer)
    add_tombstone(store, document="elsewhere.md")
    assert plan_of(store, dataset, tokenizer).run_id == before.run_id


def test_changed_shards_are_refused_by_name(store: Store, tokenizer: Manifest) -> None:
    dataset = make_dataset(store)
    plan_of(store, dataset, tokenizer)
    (made,) = store.versions("tokens", "manual")
    flip_a_bit(f"{store.artefact(made)}/train-ids-00000.npy", 0.9)
    with pytest.raises(IntegrityError, match=r"train-ids-00000\.npy.*delete .* and run the same command again"):
        pretrain(store, dataset, tokenizer)


def test_a_dataset_without_a_window_of_text_is_refused(store: Store, tokenizer: Manifest) -> None:
    config = PlinthConfig(train=SECTION.model_copy(update={"context_tokens": 8192}))
    with pytest.raises(BadInputError, match=r"manual@.* is too small to train on"):
        pretrain(store, make_dataset(store), tokenizer, config)


def test_workers_read_ranges_of_an_object_store_and_the_same_tokens_as_on_a_disk(home, store: Store, tmp_path) -> None:
    batches = {}
    for where in (store, Store(f"memory://{tmp_path.name}")):
        dataset = make_dataset(where)
        plan = plan_of(where, dataset, train_tokenizer(CONFIG, where, dataset, Silent()))
        train, held_out = open_windows(plan, where)
        batches[where.local] = [train.batch(step).ids.tolist() for step in (0, 9)] + [
            batch.ids.tolist() for batch in held_out.in_order()
        ]
    assert batches[True] == batches[False]
    kept = sum(path.stat().st_size for path in (home / "cache" / "token-blocks").glob("*/*"))
    assert 0 < kept <= sum(file.bytes for file in where.versions("tokens", "manual")[0].files)


def test_a_mixture_is_told_by_its_weights_and_limits(store: Store, tokenizer: Manifest) -> None:
    one, other = make_dataset(store), make_dataset(store, documents(90, seed=3), "other")

    def mixed(weight: float = 0.5, epochs: int = 0) -> Any:
        mixture = [Ingredient(one, 0.5), Ingredient(other, weight, epochs)]
        return plan_of(store, mixture, tokenizer)

    plans = [mixed(), mixed(0.2), mixed(epochs=1), plan_of(store, one, tokenizer)]
    assert len({plan.run_id for plan in plans}) == 4
    assert mixed().run_id == plans[0].run_id
    assert {plan.most_steps for plan in plans} == {0}  # the first dataset has no limit
    assert [row["dataset"] for row in plans[1].options["corpora"]] == [
        f"manual@{one.version}", f"other@{other.version}"
    ]  # fmt: skip


def test_more_steps_than_the_limits_allow_are_refused(store: Store, tokenizer: Manifest) -> None:
    mixture = [Ingredient(make_dataset(store), epochs=2)]
    plan = plan_of(store, mixture, tokenizer, steps=0)
    windows = open_windows(plan, store)[0]
    assert plan.most_steps == windows.last_step > 0
    assert windows.order.samples == 2 * windows.order.shares[0].windows
    with pytest.raises(UsageError, match=f"more than the {plan.most_steps} steps.*max-epochs"):
        plan_of(store, mixture, tokenizer, steps=plan.most_steps + 1)
    plan_of(store, mixture, tokenizer, steps=plan.most_steps)


def test_workers_refuse_tokens_of_another_tokenizer_or_vocabulary(store: Store, tokenizer: Manifest) -> None:
    plan = plan_of(store, make_dataset(store), tokenizer)
    foreign = dataclasses.replace(plan, options={**plan.options, "tokenizer_sha256": "0" * 64})
    with pytest.raises(IncompatibleError, match="another tokenizer"):
        open_windows(foreign, store)
    smaller = dataclasses.replace(plan.model.shape, vocab=300)
    with pytest.raises(IncompatibleError, match="the model one of 300"):
        open_windows(dataclasses.replace(plan, model=LlamaSpec(smaller)), store)
    store.fs.rm(store.path("tokens"), recursive=True)
    with pytest.raises(BadInputError, match="no manual@"):
        open_windows(plan, store)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", [("", 1.0)]), ("a", [("a", 1.0)]), ("a@1=0.7, b=.3", [("a@1", 0.7), ("b", 0.3)]),
        ("a,b", [("a", 1.0), ("b", 1.0)]),
    ],
)  # fmt: skip
def test_weights_are_read(text: str, found: list[tuple[str, float]]) -> None:
    assert parse_weights(text) == found


@pytest.mark.parametrize("text", ["a=", "a=0", "a=-1", "a=x", "a=nan", "a=0.5,a=0.5", "a=1,", "=1,b=1"])
def test_weights_that_say_nothing_are_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_weights(text)


def test_limits_of_epochs_are_read() -> None:
    assert parse_epochs("", ["a"]) == {}
    assert parse_epochs("2", ["a", "b"]) == {"a": 2, "b": 2}
    assert parse_epochs("b=4", ["a", "b"]) == {"b": 4}
    for text in ("x", "1.5", "-1", "c=1", "a=x"):
        with pytest.raises(UsageError):
            parse_epochs(text, ["a", "b"])
