"""Engines whose folder or process is broken."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import time
from pathlib import Path

import pytest

from cluster.core.errors import BadInputError, IntegrityError, PlinthError, UnsupportedError
from cluster.core.sections.tiers import ENGINES, OPENAI, TierOptions
from serve_apps import engines
from serve_apps.engines import load_engine
from serve_apps.engines.openvino_engine import OpenVinoEngine
from serve_apps.engines.protocol import EngineSampling
from serve_apps.engines.transformers_engine import TransformersEngine
from serve_apps.errors import UnavailableError
from tests.serve_apps.engines.conftest import LOCAL, Published, engine_of
from tests.serve_apps.engines.models import CONTEXT, greedy, random_llama
from tests.serve_apps.engines.test_engines import PROMPT, ids_of, take, until
from train_jobs.export.openvino_graph import export

pytestmark = pytest.mark.process


@pytest.fixture
def copy(published: Published, tmp_path: Path) -> Path:
    return Path(shutil.copytree(published.folder, tmp_path / "copy"))


def cut(path: Path) -> None:
    with open(path, "r+b") as handle:
        handle.truncate(path.stat().st_size // 2)


@pytest.mark.parametrize("kind", LOCAL, indirect=True)
def test_an_empty_folder(kind: str, tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=str(tmp_path)):
        engine_of(kind, tmp_path).start()


@pytest.mark.parametrize("kind", LOCAL, indirect=True)
def test_cut_weights(kind: str, copy: Path) -> None:
    cut(copy / ("openvino/openvino_model.bin" if kind == "openvino" else "model.safetensors"))
    engine = engine_of(kind, copy)
    with pytest.raises(PlinthError) as caught:
        engine.start()
    assert isinstance(caught.value, IntegrityError | BadInputError)
    assert engine.stats().state == "failed"


def test_pickles_are_not_read(copy: Path) -> None:
    import torch

    (copy / "model.safetensors").unlink()
    torch.save({}, copy / "pytorch_model.bin")
    with pytest.raises(BadInputError):
        TransformersEngine(copy, 1).start()


def test_own_code_is_not_run(copy: Path) -> None:
    config = json.loads((copy / "config.json").read_text())
    marker = copy / "marker"
    (copy / "own.py").write_text(f"open({str(marker)!r}, 'w')\n")
    config |= {"model_type": "own", "auto_map": {"AutoConfig": "own.C", "AutoModelForCausalLM": "own.M"}}
    (copy / "config.json").write_text(json.dumps(config))
    with pytest.raises(PlinthError) as caught:
        TransformersEngine(copy, 1).start()
    assert isinstance(caught.value, BadInputError | UnsupportedError)
    assert not marker.exists()


def test_known_architecture_with_own_code_is_refused(copy: Path) -> None:
    config = json.loads((copy / "config.json").read_text()) | {"auto_map": {"AutoModelForCausalLM": "own.M"}}
    (copy / "config.json").write_text(json.dumps(config))
    with pytest.raises(UnsupportedError, match="auto_map"):
        TransformersEngine(copy, 1).start()


def test_the_process_dies(published: Published) -> None:
    """Readers hear of it at once; the engine says it has failed and takes nothing more."""
    engine = OpenVinoEngine(published.folder, 1, "f32")
    engine.start()
    pid = engine.pid
    assert pid is not None

    async def work() -> float:
        stream = engine.submit(PROMPT, EngineSampling(230))
        await anext(aiter(stream))
        os.kill(pid, signal.SIGKILL)
        killed = time.monotonic()
        with pytest.raises(UnavailableError, match="failed"):
            async for _ in stream:
                pass
        waited = time.monotonic() - killed
        await until(lambda: engine.stats().state == "failed", "the engine does not know")
        with pytest.raises(UnavailableError, match="failed"):
            engine.submit(PROMPT, EngineSampling(5))
        return waited

    assert asyncio.run(work()) < 2
    engine.stop()


def test_the_process_dies_idle(published: Published) -> None:
    engine = OpenVinoEngine(published.folder, 1, "f32")
    engine.start()
    pid = engine.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    asyncio.run(until(lambda: engine.stats().state == "failed", "a dead process goes unnoticed"))
    engine.stop()


def test_stop_ends_the_process(published: Published) -> None:
    engine = OpenVinoEngine(published.folder, 1, "f32")
    engine.start()
    pid = engine.pid
    assert pid is not None
    engine.stop()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_small_cache_queues_and_shortens(published: Published) -> None:
    """What does not fit waits its turn; a context that never fits is refused before."""
    engine = OpenVinoEngine(published.folder, 1, "f32", cache_mb=1)  # 1 MiB: 7 blocks of 32 tokens and more
    capabilities = engine.start()
    try:
        assert 32 <= capabilities.context_tokens <= CONTEXT

        async def work() -> list[list[int]]:
            jobs = [take(engine, PROMPT, EngineSampling(60)) for _ in range(20)]
            return [ids_of(deltas) for deltas in await asyncio.gather(*jobs)]

        got = asyncio.run(work())
        assert all(ids == got[0] and len(ids) == 60 for ids in got)
        assert engine.stats().failed == 0
    finally:
        engine.stop()


def test_every_engine_of_the_configuration_is_there() -> None:
    assert {*engines.ENGINES, OPENAI} == set(ENGINES)


def test_load_engine_follows_config_and_what_there_is(published: Published, copy: Path) -> None:
    assert isinstance(load_engine(TierOptions(), published.folder), OpenVinoEngine)
    assert isinstance(load_engine(TierOptions(engine="transformers"), published.folder), TransformersEngine)
    shutil.rmtree(copy / "openvino")
    assert isinstance(load_engine(TierOptions(), copy), TransformersEngine)


def test_bf16_says_what_it_runs_in(published: Published) -> None:
    """Half precision still writes something sensible: most of its tokens are those of float32."""
    engine = OpenVinoEngine(published.folder, 1, "bf16")
    exact = OpenVinoEngine(published.folder, 1, "f32")
    try:
        assert engine.start().precision in ("bf16", "f32")
        assert exact.start().precision == "f32"
        half, full = (ids_of(asyncio.run(take(e, PROMPT, EngineSampling(24)))) for e in (engine, exact))
        assert half[0] == full[0]
    finally:
        engine.stop()
        exact.stop()


def test_another_architecture_runs_on_transformers(tmp_path: Path) -> None:
    """Learned positions, no RoPE: the converter refuses it, the reference engine serves it."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(4)
    config = GPT2Config(vocab_size=300, n_positions=128, n_embd=64, n_layer=2, n_head=4, initializer_range=0.1)
    model = GPT2LMHeadModel(config).eval()
    model.save_pretrained(tmp_path)
    with pytest.raises(UnsupportedError, match="GPT2LMHeadModel"):
        export(tmp_path, tmp_path / "openvino")
    engine = load_engine(TierOptions(threads=1), tmp_path)
    try:
        capabilities = engine.start()
        assert (capabilities.engine, capabilities.context_tokens, capabilities.vocab) == ("transformers", 128, 300)
        prompt = [5, 80, 123, 7]
        assert ids_of(asyncio.run(take(engine, prompt, EngineSampling(40)))) == greedy(model, prompt, 40)
    finally:
        engine.stop()


def test_a_full_queue_refuses(published: Published, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serve_apps.engines.worker.MAX_WAITING", 3)
    engine = TransformersEngine(published.folder, 1)
    engine.start()

    async def work() -> None:
        streams = [engine.submit(PROMPT, EngineSampling(200))]
        await until(lambda: engine.stats().running == 1, "nothing runs")
        streams += [engine.submit(PROMPT, EngineSampling(200)) for _ in range(3)]
        assert engine.stats().waiting == 3
        with pytest.raises(UnavailableError, match="waiting"):
            engine.submit(PROMPT, EngineSampling(200))
        for stream in streams:
            await stream.aclose()

    try:
        asyncio.run(work())
    finally:
        engine.stop()


def test_the_event_loop_goes_on_while_openvino_computes(tmp_path: Path) -> None:
    """The pipeline's step keeps the interpreter lock: in a thread of this process the loop would stand still."""
    random_llama(
        tmp_path, hidden_size=512, intermediate_size=1408, num_hidden_layers=6, num_attention_heads=8,
        num_key_value_heads=4, max_position_embeddings=1024,
    )  # fmt: skip
    export(tmp_path, tmp_path / "openvino")
    engine = OpenVinoEngine(tmp_path, 1, "f32")
    engine.start()

    async def work() -> tuple[float, int]:
        reader = asyncio.create_task(take(engine, [7] * 1000, EngineSampling(1)))
        begun, turns = time.monotonic(), 0
        while not reader.done():
            await asyncio.sleep(0.001)
            turns += 1
        return time.monotonic() - begun, turns

    try:
        seconds, turns = asyncio.run(work())
    finally:
        engine.stop()
    assert turns > 30 * seconds, f"{turns} turns of the event loop in {seconds:.2f} s of prefill"
