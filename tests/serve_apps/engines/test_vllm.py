"""What is vLLM's own: arguments, adapters by name beside base requests, aborts, death. The shared behaviour is in
``test_engines``. vLLM itself is not here: its interface is (``vllm_library``)."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from typing import Any

import pytest

from cluster.core.config import PlinthConfig, configured
from cluster.core.errors import BadInputError, PlinthError, UnsupportedError, UsageError
from cluster.core.sections.tiers import TierConfig
from serve_apps.engines.protocol import EngineSampling
from serve_apps.engines.vllm_engine import VllmEngine, installed, sampling_arguments
from serve_apps.errors import UnavailableError
from serve_apps.replicas.options import graph_options, tier_options
from serve_apps.scaling.room import check_room, needs
from tests.serve_apps.engines.conftest import Published
from tests.serve_apps.engines.models import greedy
from tests.serve_apps.engines.test_engines import PROMPT, ids_of, take, until
from tests.serve_apps.engines.vllm_library import library, with_adapter

ON_GPU = "serve.tiers.big.engine=vllm"
TWO_GPUS = [ON_GPU, "serve.tiers.big.tensor_parallel=2", "serve.replica_cpus=1"]


def test_sampling_is_said_in_vllms_words() -> None:
    assert sampling_arguments(EngineSampling(9, stop_ids=(2,))) == {
        "max_tokens": 9, "temperature": 0.0, "stop_token_ids": [2], "ignore_eos": True, "detokenize": False,
    }  # fmt: skip
    drawn = sampling_arguments(EngineSampling(9, 0.7, 0.9, seed=-1))
    assert (drawn["temperature"], drawn["top_p"], drawn["seed"]) == (0.7, 0.9, (1 << 63) - 1)
    assert "top_p" not in sampling_arguments(EngineSampling(9, 0.7, 0.0)), "vLLM refuses a nucleus of nothing"


def test_gpus_are_reserved_on_one_node_and_refused_where_there_are_none() -> None:
    config = configured(PlinthConfig(), TWO_GPUS)
    options = tier_options(config.serve, config.serve.tier("big"))
    assert options["placement_group_bundles"] == [{"GPU": 1.0, "CPU": 2.0}, {"GPU": 1.0}]
    assert options["placement_group_strategy"] == "STRICT_PACK"
    assert "num_gpus" not in options["ray_actor_options"], "its workers take them"
    assert needs(options) == {"CPU": 2.0, "GPU": 2.0}
    with pytest.raises(UsageError, match="one replica reserves 2 CPU and 2 GPU"):
        check_room(graph_options(config, config.serve.tiers), [{"CPU": 64.0, "GPU": 1.0}], all_there=True)
    one = configured(PlinthConfig(), [ON_GPU])
    assert tier_options(one.serve, one.serve.tier("big"))["ray_actor_options"]["num_gpus"] == 1.0


def test_prompts_go_where_their_beginning_was_read_only_where_an_engine_keeps_it() -> None:
    for engine, there in (("vllm", True), ("openvino", False)):
        config = configured(PlinthConfig(), [f"serve.tiers.big.engine={engine}", "serve.tiers.big.max_replicas=3"])
        assert ("request_router_config" in tier_options(config.serve, config.serve.tier("big"))) is there
    alone = configured(PlinthConfig(), [ON_GPU])
    assert "request_router_config" not in tier_options(alone.serve, alone.serve.tier("big"))


@pytest.mark.process
def test_serve_takes_the_router_and_the_placement_group() -> None:
    from ray.serve._private.build_app import build_app as flatten

    from serve_apps.affinity_router import AffinityRouter
    from serve_apps.deploy import build_app

    built = flatten(
        build_app(configured(PlinthConfig(), [*TWO_GPUS, "serve.tiers.big.max_replicas=2"])),
        name="plinth", make_deployment_handle=lambda *_: None,
    )  # fmt: skip
    big = next(one for one in built.deployments if one.name == "tier-big")
    assert big._deployment_config.request_router_config.get_request_router_class() is AffinityRouter
    assert len(big._replica_config.placement_group_bundles) == 2


@pytest.mark.parametrize(
    "wrong",
    [{"tensor_parallel": 2}, {"adapter": "x"}, {"engine": "vllm", "tensor_parallel": 2, "resources": {"GPU": 1}}],
)
def test_settings_that_are_vllms_only(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="vllm"):
        TierConfig(name="x", **wrong)


def test_without_vllm_it_says_what_is_missing() -> None:
    with pytest.raises(UnsupportedError, match="vLLM cannot be used here"):
        installed()


@pytest.mark.process
def test_arguments_fetch_and_run_nothing(published: Published) -> None:
    engine = VllmEngine(
        published.folder, "bf16", 7, 2048, context_tokens=100, tensor_parallel=2, gpu_memory=0.5, library=library
    )
    assert engine.start().context_tokens == 100
    args = engine._llm.args
    engine.stop()
    assert (args.trust_remote_code, args.load_format, args.generation_config) == (False, "safetensors", "vllm")
    assert (args.dtype, args.max_num_seqs, args.max_num_batched_tokens) == ("bfloat16", 7, 2048)
    assert (args.tensor_parallel_size, args.distributed_executor_backend) == (2, "ray")
    assert (args.enable_prefix_caching, args.enable_log_requests, args.enable_lora) == (True, False, False)


@pytest.mark.process
def test_an_adapter_answers_by_name_and_base_requests_beside_it_stay_base(published: Published, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(published.folder, tmp_path / "copy"))
    for name, rank in (("terse", 4), ("formal", 12)):
        with_adapter(folder, name, rank)
    engine = VllmEngine(folder, "f32", library=library)
    assert engine.start().adapters

    async def together() -> list[list[int]]:
        names = (None, "terse", "formal", None, "terse")
        jobs = [_take(engine, name) for name in names]
        return await asyncio.gather(*jobs)

    base, terse, formal, again, terse_again = asyncio.run(together())
    args, most = engine._llm.args, engine._llm.most_together
    engine.stop()
    assert base == again == greedy(published.model, PROMPT, 30)
    assert terse == terse_again
    assert len({tuple(ids) for ids in (base, terse, formal)}) == 3
    assert most == 5, "they were worked on at the same time"
    assert (args.enable_lora, args.max_loras, args.max_lora_rank) == (True, 2, 16)


async def _take(engine: VllmEngine, adapter: str | None) -> list[int]:
    return [token async for delta in engine.submit(PROMPT, EngineSampling(30), adapter) for token in delta.ids]


@pytest.mark.process
def test_an_adapter_that_is_not_there_is_refused(published: Published, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(published.folder, tmp_path / "copy"))
    with_adapter(folder, "terse", 4)
    engine = VllmEngine(folder, "f32", library=library)
    engine.start()

    async def ask() -> None:
        with pytest.raises(UnsupportedError, match="no such adapter: 'other'"):
            engine.submit(PROMPT, EngineSampling(5), "other")

    asyncio.run(ask())
    engine.stop()


@pytest.mark.process
def test_who_leaves_is_aborted_in_vllm_too(published: Published) -> None:
    engine = VllmEngine(published.folder, "f32", library=library)
    engine.start()

    async def leave() -> None:
        stream = engine.submit(PROMPT, EngineSampling(200))
        await anext(aiter(stream))
        await stream.aclose()
        await until(lambda: len(engine._llm.aborted) == 1, "vLLM still works for nobody")

    asyncio.run(leave())
    llm = engine._llm
    engine.stop()
    assert llm.down


@pytest.mark.process
def test_a_dead_engine_fails_what_it_had_and_says_so(published: Published) -> None:
    engine = VllmEngine(published.folder, "f32", library=library)
    engine.start()

    async def die() -> None:
        stream = engine.submit(PROMPT, EngineSampling(200))
        await anext(aiter(stream))
        engine._llm.dead = True
        with pytest.raises(UnavailableError):
            async for _ in stream:
                pass
        await until(lambda: engine.stats().state == "failed", "it counts as alive")

    asyncio.run(die())
    engine.stop()


@pytest.mark.process
def test_at_most_as_many_as_it_was_told_run_together(published: Published) -> None:
    engine = VllmEngine(published.folder, "f32", concurrent=2, library=library)
    engine.start()

    async def crowd() -> list[Any]:
        return await asyncio.gather(*(take(engine, PROMPT, EngineSampling(10)) for _ in range(6)))

    answers = asyncio.run(crowd())
    most = engine._llm.most_together
    engine.stop()
    assert {tuple(ids_of(deltas)) for deltas in answers} == {tuple(greedy(published.model, PROMPT, 10))}
    assert most == 2


@pytest.mark.process
def test_code_of_a_models_own_is_refused(published: Published, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(published.folder, tmp_path / "copy"))
    config = (folder / "config.json").read_text()
    (folder / "config.json").write_text(config.replace("{", '{"auto_map": {"AutoModelForCausalLM": "own.M"},', 1))
    with pytest.raises(PlinthError, match="code of its own"):
        VllmEngine(folder, library=library).start()
    with pytest.raises(BadInputError):
        VllmEngine(tmp_path, library=library).start()
