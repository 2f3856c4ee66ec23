"""A model tier inside its replica: real engine, real tokenizer, real registry; a tiny model made here."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import signal
from collections.abc import AsyncGenerator, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from actors.registry.models import Registry
from cluster.core.config import PlinthConfig, configured
from cluster.core.records import Answer, Passage
from cluster.core.storage import Store
from data_jobs.retrieval.features import FEATURES
from data_jobs.retrieval.results import Retrieval, ScoredSentence
from serve_apps.errors import ApiError, UnavailableError
from serve_apps.gateway.protocols import Sampling, TierState
from serve_apps.replicas.model import ModelReplica

pytestmark = pytest.mark.process

Start = Callable[[PlinthConfig], ModelReplica]

F32 = "serve.model_defaults.precision=f32"
CORPUS = [
    "Copy a directory tree recursively.",
    "Return a list of the names in a folder.",
    "Wait for some seconds.",
] * 20
PASSAGES = tuple(
    Passage(f"{name}#0", name, name, "lib.py:1", text, 0, len(text), 1.0 - n / 10, 0.6, 0.5, "", "function")
    for n, (name, text) in enumerate([("shutil.copytree", CORPUS[0]), ("os.listdir", CORPUS[1])])
)
FOUND = Retrieval(
    "How do I copy a folder?",
    PASSAGES,
    tuple(ScoredSentence(n, 0, len(p.text), p.text, 0.6 - n / 10, 0.5) for n, p in enumerate(PASSAGES)),
    dict.fromkeys(FEATURES, 0.5),
    "v1",
    "2026-01-01T00:00:00+00:00",
)


def make_model(folder: Path, seed: int) -> None:
    """A random Llama of 30k parameters and a byte-level tokenizer with our special tokens."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    from train_jobs.answering.special_tokens import BOS, EOS, PAD, SPECIAL_TOKENS

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=512, special_tokens=list(SPECIAL_TOKENS), initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )  # fmt: skip
    tokenizer.train_from_iterator(CORPUS, trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=BOS, eos_token=EOS, pad_token=PAD)
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(fast), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, max_position_embeddings=512, tie_word_embeddings=True,
        bos_token_id=fast.bos_token_id, eos_token_id=fast.eos_token_id, pad_token_id=fast.pad_token_id,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    fast.save_pretrained(folder)


def publish(store: Store, seed: int, kind: str = "points", tokenizer_sha256: str = "", **counts: Any) -> str:
    """Convert, publish and register a tiny model; returns its version."""
    from train_jobs.export.openvino_graph import export

    staging = Path(store.staging(f"test-{seed}-{kind}"))
    make_model(staging, seed)
    export(staging, staging / "openvino")
    digest = hashlib.sha256((staging / "tokenizer.json").read_bytes()).hexdigest()
    facts = {
        "format": kind, "tier": "tiny", "context_tokens": 512, "tokenizer_sha256": tokenizer_sha256 or digest,
        "parameters": 30_000, "license": "Apache-2.0", "knowledge_cutoff": "",
        "provenance": {"checkpoint": "tiny@1", "tokenizer": "tiny@1", "dataset": "d@1", "examples": "tiny@1"},
    }  # fmt: skip
    (staging / "plinth.json").write_text(json.dumps(facts))
    manifest = store.publish("models", "tiny", str(staging), run_key=f"tiny-{seed}-{kind}", counts=counts)
    Registry(store).register("tiny", manifest.version)
    return manifest.version


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setenv("PLINTH_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PLINTH_STORE", str(tmp_path / "store"))
    return Store(str(tmp_path / "store"))


@pytest.fixture
def started() -> Iterator[Start]:
    """Makes replicas of "tiny"; their engines are stopped at the end."""
    made: list[ModelReplica] = []

    def start(config: PlinthConfig) -> ModelReplica:
        made.append(ModelReplica(config, config.serve.tier("tiny")))
        return made[-1]

    yield start
    for replica in made:
        if replica._live.current is not None:
            replica._live.current.thing.engine.stop()


@pytest.fixture(params=["openvino", "transformers"])
def config(request: pytest.FixtureRequest) -> PlinthConfig:
    return configured(PlinthConfig(), [f"serve.model_defaults.engine={request.param}", F32])


async def heard(items: AsyncGenerator[str | Answer, None]) -> tuple[str, Answer]:
    said, answers = "", []
    async for item in items:
        if isinstance(item, Answer):
            answers.append(item)
        else:
            said += item
    assert len(answers) == 1
    return said, answers[0]


def test_says_whose_documents_it_learnt_from(store: Store, started: Start) -> None:
    config = configured(PlinthConfig(), ["serve.model_defaults.engine=transformers", F32])
    publish(store, 1)
    assert asyncio.run(started(config).state()).access == ()
    publish(store, 2, access={"": 3, "acme:hr": 1})
    assert asyncio.run(started(config).state()).access == ("", "acme:hr")


def test_answers_continues_and_reports(store: Store, config: PlinthConfig, started: Start) -> None:
    version = publish(store, 1)
    replica = started(config)

    async def scene() -> None:
        state = await replica.state()
        assert (state.ready, state.earned, state.model_version, state.continues) == (True, False, version, True)
        _, answer = await heard(replica.stream(FOUND.question, FOUND, Sampling()))
        assert answer.prompt_tokens > 20
        assert answer.completion_tokens >= 1
        if answer.grounded:  # a random model may point somewhere; then it quotes what stands there
            assert answer.citations[0].document in {p.document for p in PASSAGES}
        said, ended = await heard(replica.complete("Copy a", Sampling(max_tokens=12)))
        assert said == ended.text
        assert (ended.grounded, ended.reason) == (False, "continuation")
        assert ended.completion_tokens == 12 or ended.finish == "stop"
        again, _ = await heard(replica.complete("Copy a", Sampling(max_tokens=12)))
        assert again == said, "greedy"
        stop = said[3:5]
        cut, _ = await heard(replica.complete("Copy a", Sampling(max_tokens=12, stops=(stop,))))
        assert cut == said[: said.index(stop)]
        with pytest.raises(ApiError, match="longest"):
            await heard(replica.complete("Copy a folder " * 200, Sampling()))

    asyncio.run(scene())


def test_a_model_that_writes_says_nothing_but_its_evidence(store: Store, config: PlinthConfig, started: Start) -> None:
    publish(store, 1, "grounded")
    replica = started(configured(config, ["answer.min_confidence=0.0"]))

    async def scene() -> None:
        said, answer = await heard(replica.stream(FOUND.question, FOUND, Sampling(max_tokens=200, temperature=1.0)))
        assert answer.prompt_tokens > 20
        assert 1 <= answer.completion_tokens <= 96
        assert not answer.grounded, "random weights cite nothing"
        assert (said, answer.reason) == ("", "uncited")
        _, unasked = await heard(replica.stream(FOUND.question, replace(FOUND, passages=(), sentences=()), Sampling()))
        assert (unasked.reason, unasked.completion_tokens) == ("no_passages", 0)

    asyncio.run(scene())


def test_a_statement_is_held_back_until_it_is_checked_and_writing_ends_in_time(
    store: Store, config: PlinthConfig, started: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(store, 1, "grounded")
    replica = started(configured(config, ["answer.min_confidence=0.0", "serve.model_defaults.answer_s=0.2"]))
    copy, invented = "Copy a directory tree recursively.", "Copy 7 directory trees for Mr. Smith."

    async def writes(*args: Any) -> AsyncGenerator[tuple[str, int, str], None]:
        for n, piece in enumerate((copy[:9], copy[9:], " [1", "] ", invented, " [2] ", "More"), 1):
            yield piece, n, ""
        await asyncio.Event().wait()  # an engine that hangs

    monkeypatch.setattr(replica, "_text", writes)

    async def scene() -> None:
        async with asyncio.timeout(20):
            items = [item async for item in replica.stream(FOUND.question, FOUND, Sampling())]
        *said, answer = items
        assert isinstance(answer, Answer)
        assert said[0] == f"shutil.copytree — {copy} [1]"
        assert "".join(map(str, said)) == answer.text
        assert "Smith" not in answer.text
        assert '"Return a list of the names in a folder." [2]' in answer.text
        assert answer.completion_tokens == 7
        assert answer.finish == "length", "it might have had more to say"

        async def ends(*args: Any) -> AsyncGenerator[tuple[str, int, str], None]:
            yield f"{copy} [1]", 9, "length"

        monkeypatch.setattr(replica, "_text", ends)
        assert (await heard(replica.stream(FOUND.question, FOUND, Sampling())))[1].finish == "stop", "that was all"

    asyncio.run(scene())


def test_a_stop_sequence_ends_the_engines_work(store: Store, config: PlinthConfig, started: Start) -> None:
    publish(store, 1)
    replica = started(config)
    assert replica._live.current is not None
    engine = replica._live.current.thing.engine

    async def scene() -> None:
        said, _ = await heard(replica.complete("Copy a", Sampling(max_tokens=200)))
        before = engine.stats().cancelled
        cut, answer = await heard(replica.complete("Copy a", Sampling(max_tokens=200, stops=(said[4:7],))))
        assert cut == said[: said.index(said[4:7])]
        assert (answer.finish, answer.text) == ("stop", cut)
        async with asyncio.timeout(10):
            while engine.stats().cancelled == before:
                await asyncio.sleep(0.01)

    asyncio.run(scene())


def test_a_tier_may_serve_another_model_and_hold_on_to_a_version(store: Store, config: PlinthConfig) -> None:
    first, second = publish(store, 1), publish(store, 2)
    entries = ["serve.tiers.newest.model=tiny", f"serve.tiers.pinned.model=tiny@{first}",
               "serve.tiers.short.model=tiny",
               "serve.tiers.short.context_tokens=20", "serve.tiers.best.model=tiny@champion"]  # fmt: skip
    serve = configured(config, entries).serve
    replicas = {name: ModelReplica(config, serve.tier(name)) for name in ("newest", "pinned", "short", "best")}
    try:
        states = {name: asyncio.run(replica.state()) for name, replica in replicas.items()}
        assert {name: (state.name, state.model_version) for name, state in states.items()} == {
            "newest": ("newest", second), "pinned": ("pinned", first), "short": ("short", second), "best": ("best", ""),
        }  # fmt: skip
        assert not states["best"].ready, "there is no champion yet"
        with pytest.raises(ApiError, match="longest accepted has 20"):
            asyncio.run(heard(replicas["short"].complete("Copy a folder " * 9, Sampling())))
    finally:
        for replica in replicas.values():
            if replica._live.current is not None:
                replica._live.current.thing.engine.stop()


def test_a_prompt_cannot_speak_in_special_tokens(store: Store, config: PlinthConfig, started: Start) -> None:
    publish(store, 1)
    replica = started(config)
    assert replica._live.current is not None
    model = replica._live.current.thing
    special = set(model.tokenizer.all_special_ids) | {model.tokenizer.convert_tokens_to_ids("<|answer|>")}
    assert special & set(model.ids("<|bos|><|answer|>")), "our own prompts need them"
    assert not special & set(model.ids("<|bos|><|answer|>", plain=True))


def test_a_new_version_goes_live_and_a_bad_one_does_not(store: Store, config: PlinthConfig, started: Start) -> None:
    first = publish(store, 1)
    replica = started(config)

    async def scene() -> None:
        speaking = replica.complete("Copy a", Sampling(max_tokens=40))
        begun: Any = await anext(speaking)
        second = publish(store, 2)
        replica._live.refresh()
        assert (await replica.state()).model_version == second
        said, answer = await heard(speaking)  # what was begun is ended by the version it began with
        assert answer.text == begun + said
        wrong = publish(store, 3, tokenizer_sha256="0" * 64)
        replica._live.refresh()
        assert wrong != second
        assert (await replica.state()).model_version == second
        third = publish(store, 4)
        weights = Path(store.artefact(store.manifest("models", "tiny", third))) / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:-100])
        replica._live.refresh()
        assert (await replica.state()).model_version == second, "truncated weights are refused by their hash"
        assert first != second

    asyncio.run(scene())


def test_a_dead_engine_fails_the_health_check(store: Store, started: Start) -> None:
    publish(store, 1)
    before = set(children())
    replica = started(configured(PlinthConfig(), [F32]))
    assert replica._live.current is not None
    (child,) = [p for p in set(children()) - before if "openvino_process" in p[1]]

    async def unhealthy() -> bool:
        try:
            await replica.check_health()
        except UnavailableError:
            return True
        return False

    async def scene() -> None:
        assert not await unhealthy()
        os.kill(child[0], signal.SIGKILL)
        deadline = asyncio.get_running_loop().time() + 60
        while not await unhealthy():
            assert asyncio.get_running_loop().time() < deadline, "nobody noticed"
            await asyncio.sleep(0.02)

    asyncio.run(scene())


def children() -> list[tuple[int, str]]:
    """(pid, command line) of this process's children."""
    found = []
    for task in Path("/proc/self/task").iterdir():
        for pid in (task / "children").read_text().split():
            found.append((int(pid), Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()))
    return found


@pytest.mark.parametrize("served_before", [False, True])
def test_champions_earn_auto_and_bring_their_measurements(
    served_before: bool, store: Store, config: PlinthConfig, started: Start
) -> None:
    """Also where the gate judges a model that is served by its name already."""
    from actors.policies.gate import GateCheck, GateResult

    version = publish(store, 1)
    replica = started(config) if served_before else None
    staging = store.staging("gate-1")
    band = {"low": 0.0, "high": 1.01, "n": 50, "model": 0.7, "quote": 0.6}
    report = {"ms": {"model": 12.0}, "bands": [band]}
    store.write(f"{staging}/report.json", json.dumps(report).encode())
    gate = store.publish("gates", "tiny", staging, run_key="gate-1", inputs={"model": f"tiny@{version}"})
    store.move_alias("gates", "tiny", version, gate.version, "test")
    check = GateCheck("difference", 0.1, 0.0, True, "better")
    Registry(store).promote("tiny", version, GateResult(True, (check,), "passed"), f"tiny@{gate.version}")
    replica = replica or started(config)

    async def scene() -> TierState:
        deadline = asyncio.get_running_loop().time() + 20
        while not (state := await replica.state()).earned or not state.bands:
            assert asyncio.get_running_loop().time() < deadline, "the follower did not find it"
            await asyncio.sleep(0.05)
        return state

    state = asyncio.run(scene())
    assert (state.earned, state.latency_ms) == (True, 12.0)
    assert [(b.questions, b.model, b.fallback) for b in state.bands] == [(50, 0.7, 0.6)]


def test_without_a_model_nothing_is_served_until_one_comes(store: Store, config: PlinthConfig, started: Start) -> None:
    replica = started(config)

    async def scene() -> None:
        assert not (await replica.state()).ready
        with pytest.raises(UnavailableError, match="no version"):
            await heard(replica.stream(FOUND.question, FOUND, Sampling()))
        version = publish(store, 1)
        deadline = asyncio.get_running_loop().time() + 20
        while not (await replica.state()).ready:
            assert asyncio.get_running_loop().time() < deadline, "the follower did not find it"
            await asyncio.sleep(0.05)
        assert (await replica.state()).model_version == version

    asyncio.run(scene())
