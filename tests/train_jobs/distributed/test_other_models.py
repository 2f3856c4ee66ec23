"""Models of transformers and adapters, whole and in parts: the steps of one worker, and a resume, under each strategy.

As ``test_strategies``, which does it with the own Llama: plain processes with gloo on loopback, without Ray.
"""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from typing import Any

import pytest

from cluster.core.storage import Store
from tests.conftest import needs
from tests.train_jobs.corpora import SECTION
from tests.train_jobs.distributed.groups import Order, copied, train
from tests.train_jobs.distributed.test_strategies import KINDS, STEPS, Ran, assert_same
from tests.train_jobs.models.test_hugging_face import CONFIGS
from tests.train_jobs.models.test_lora import publish_base
from tests.train_jobs.trainer.plans import TOKENIZER, make_plan
from train_jobs.models.hugging_face import HuggingFaceSpec
from train_jobs.models.lora import LoraSpec, adapted
from train_jobs.models.shape import Shape
from train_jobs.models.spec import LlamaSpec, ModelSpec
from train_jobs.trainer.checkpoint import latest
from train_jobs.trainer.plan import RunPlan

pytestmark = [pytest.mark.process, pytest.mark.slow, pytest.mark.timeout(1200)]
WAYS = ("fsdp2", "zero2", "zero3")
STOP = 8


def _spec(name: str) -> ModelSpec:
    vocab = TOKENIZER.get_vocab_size()
    if name == "own":
        return LlamaSpec(Shape.of(SECTION, vocab))
    return HuggingFaceSpec.of(CONFIGS[name], vocab=vocab, context=SECTION.context_tokens)


def _models(store: Store) -> dict[str, dict[str, Any]]:
    """The changes to a plan that make it train each model: untied with biases and scaled angles, tied; adapters."""
    found: dict[str, dict[str, Any]] = {name: {"model": _spec(name)} for name in ("llama", "gpt2")}
    for name in ("own", "llama", "gpt2"):
        base = publish_base(store, _spec(name), 5, f"base-{name}")
        spec = adapted(_spec(name), base, rank=4, alpha=8.0, dropout=0.0, targets="all-linear", seed=1)
        plan = RunPlan.starting_from(make_plan(store, "initial"), store, base)
        found[f"lora-{name}"] = {"model": spec, "initial": plan.initial, "initial_files": plan.initial_files}
    return found


MODELS = ("llama", "gpt2", "lora-own", "lora-llama", "lora-gpt2")


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    needs(importlib.util.find_spec("deepspeed") is not None, "the package deepspeed (make install-dev)")
    folder = tmp_path_factory.mktemp("models")
    store = Store(str(folder / "store"))
    base = replace(make_plan(store, "data", steps=STEPS), evaluate_steps=STEPS)
    models = _models(store)
    assert tuple(models) == MODELS
    together: dict[str, Order] = {}
    alone: dict[str, Order] = {}
    for model, changes in models.items():
        alone[model] = (copied(base, model, **changes), 0)
        for way in WAYS:
            plan = copied(base, f"{model}-{way}", **changes, **KINDS[way])
            together |= {f"{model} {way}": (plan, STOP), f"{model} {way} resumed": (plan, 0)}
    steps = dict(zip(together, train(folder / "two", list(together.values()), 2), strict=True))
    steps |= dict(zip(alone, train(folder / "one", list(alone.values()), 1), strict=True))
    return Ran({name: plan for name, (plan, _) in {**together, **alone}.items()}, steps)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("model", MODELS)
def test_the_steps_are_those_of_one_worker_also_after_a_resume(ran: Ran, model: str, way: str) -> None:
    begun, resumed = ran.steps[f"{model} {way}"], ran.steps[f"{model} {way} resumed"]
    assert STOP <= len(begun) < STEPS  # small models take several steps between two looks
    assert len(begun) + len(resumed) == STEPS
    assert ran.steps[model][-1][0] < ran.steps[model][0][0] - 0.05
    assert_same(begun + resumed, ran.steps[model])


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("model", [model for model in MODELS if model.startswith("lora-")])
def test_checkpoints_hold_the_adapters_and_name_the_base(ran: Ran, model: str, way: str) -> None:
    plan = ran.plans[f"{model} {way} resumed"]
    found = latest(Store(plan.store), plan.folder)
    assert found is not None
    learnt = {name: weight for name, weight in plan.model.build(5).named_parameters() if weight.requires_grad}
    after = found.tensors()
    assert after.keys() == learnt.keys()
    assert any(after[name].any() for name in after if ".lora_B." in name)
    assert isinstance(plan.model, LoraSpec)
    assert found.base == plan.model.base_sha256
