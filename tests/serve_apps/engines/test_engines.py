"""One suite of behaviour for every engine: what the tier above may rely on, whichever engine runs the model."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import pytest

from cluster.core.errors import BadInputError, UnsupportedError
from serve_apps.engines.protocol import Engine, EngineSampling, TokenDelta
from serve_apps.errors import UnavailableError
from tests.serve_apps.engines.conftest import LOCAL, Published, engine_of
from tests.serve_apps.engines.models import CONTEXT, EOS, VOCAB, greedy, text_ids

pytestmark = pytest.mark.process  # models, transformers and a process of OpenVINO

PROMPT = text_ids("Licensor shall mean")
in_tokens = pytest.mark.parametrize("kind", LOCAL, indirect=True)  # what another server answers in text, or not at once


async def take(engine: Engine, ids: list[int], sampling: EngineSampling) -> list[TokenDelta]:
    return [delta async for delta in engine.submit(ids, sampling)]


def ids_of(deltas: list[TokenDelta]) -> list[int]:
    return [token for delta in deltas for token in delta.ids]


async def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, what
        await asyncio.sleep(0.01)


def test_greedy_tokens_are_those_of_transformers(engine: Engine, published: Published) -> None:
    deltas = asyncio.run(take(engine, PROMPT, EngineSampling(80)))
    expected = greedy(published.model, PROMPT, 80)
    assert len(set(expected)) > 8, "a model that repeats itself proves nothing"
    assert ids_of(deltas) == expected
    assert [delta.finish for delta in deltas] == [""] * (len(deltas) - 1) + ["length"]
    assert len(deltas) < 80, "tokens travel in groups"


def test_requests_together_equal_requests_alone(engine: Engine, published: Published) -> None:
    """Different lengths, prompts that begin with one another, asked in two waves."""
    prompts = [text_ids("Licensor shall"[: 1 + n]) for n in range(0, 12, 2)] + [PROMPT * 4, PROMPT * 4]
    lengths = [64, 5, 30, 64, 1, 48, 64, 17]

    async def together() -> list[list[TokenDelta]]:
        first = [asyncio.create_task(take(engine, p, EngineSampling(n))) for p, n in zip(prompts, lengths, strict=True)]
        await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
        second = [asyncio.create_task(take(engine, p, EngineSampling(9))) for p in prompts]
        return await asyncio.gather(*first, *second)

    got = [ids_of(deltas) for deltas in asyncio.run(together())]
    expected = [greedy(published.model, prompt, max(n, 9)) for prompt, n in zip(prompts, lengths, strict=True)]
    assert got[:8] == [ids[:n] for ids, n in zip(expected, lengths, strict=True)]
    assert got[8:] == [ids[:9] for ids in expected]


@in_tokens
def test_a_stop_id_ends_and_is_delivered(engine: Engine, published: Published) -> None:
    expected = greedy(published.model, PROMPT, 60)
    stop = expected[20]
    deltas = asyncio.run(take(engine, PROMPT, EngineSampling(60, stop_ids=(stop, VOCAB - 1))))
    assert ids_of(deltas) == expected[: expected.index(stop) + 1]
    assert deltas[-1].finish == "stop"


@in_tokens
def test_nothing_else_stops(kind: str, published: Published, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The model's own end-of-text id is an id like any other unless it is asked for."""
    folder = tmp_path_factory.mktemp("eos")
    expected = greedy(published.model, PROMPT, 40)
    from train_jobs.export.openvino_graph import export

    published.model.generation_config.eos_token_id, before = expected[3], published.model.generation_config.eos_token_id
    published.model.config.eos_token_id = expected[3]
    published.model.save_pretrained(folder)
    published.model.generation_config.eos_token_id = published.model.config.eos_token_id = before
    export(folder, folder / "openvino")
    engine = engine_of(kind, folder)
    engine.start()
    try:
        free = asyncio.run(take(engine, PROMPT, EngineSampling(40)))
        other = next(token for token in expected[6:] if token not in expected[:6])
        stopped = asyncio.run(take(engine, PROMPT, EngineSampling(40, stop_ids=(other,))))
    finally:
        engine.stop()
    assert ids_of(free) == expected
    assert ids_of(stopped) == expected[: expected.index(other) + 1]


def test_the_whole_context_can_be_used(engine: Engine, published: Published) -> None:
    prompt = (PROMPT * 20)[: CONTEXT - 40]
    deltas = asyncio.run(take(engine, prompt, EngineSampling(40)))
    assert ids_of(deltas) == greedy(published.model, prompt, 40)


def test_closing_the_stream_cancels(engine: Engine, published: Published) -> None:
    async def work() -> None:
        cancelled = engine.stats().cancelled
        stream = engine.submit(PROMPT, EngineSampling(230))
        first = await anext(aiter(stream))
        assert first.ids
        await stream.aclose()
        await until(lambda: engine.stats().cancelled == cancelled + 1, "the request still runs")
        assert (engine.stats().running, engine.stats().cache_usage) == (0, 0.0)
        with pytest.raises(StopAsyncIteration):
            await anext(aiter(stream))

    asyncio.run(work())
    assert ids_of(asyncio.run(take(engine, PROMPT, EngineSampling(20)))) == greedy(published.model, PROMPT, 20)


def test_cancelling_the_reader_and_dropping_the_stream_cancel(engine: Engine) -> None:
    async def work() -> None:
        before = engine.stats()
        reader = asyncio.create_task(take(engine, PROMPT, EngineSampling(230)))
        await until(lambda: engine.stats().generated_tokens > before.generated_tokens, "nothing was generated")
        reader.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reader
        await anext(aiter(engine.submit(PROMPT, EngineSampling(230))))  # nobody holds the stream
        await until(lambda: engine.stats().cancelled == before.cancelled + 2, "somebody still works for nobody")

    asyncio.run(work())


def test_nothing_leaks_over_many_cancellations(kind: str, published: Published) -> None:
    """Blocks of cancelled requests come back: the cache of 576 would be full after some seventy of them."""
    engine = engine_of(kind, published.folder)
    engine.start()
    rounds, wide = (40, 16) if kind == "openvino" else (4, 4)

    async def broken_off(number: int) -> None:
        stream = engine.submit((PROMPT * 12)[: 150 + number], EngineSampling(80))
        await anext(aiter(stream))
        await stream.aclose()

    async def work() -> None:
        for _ in range(rounds):
            await asyncio.gather(*(broken_off(n) for n in range(wide)))
        await until(lambda: engine.stats().running == 0, "requests are still running")

    try:
        asyncio.run(work())
        assert engine.stats().cancelled == rounds * wide
        assert ids_of(asyncio.run(take(engine, PROMPT, EngineSampling(20)))) == greedy(published.model, PROMPT, 20)
    finally:
        engine.stop()


def test_seeds(engine: Engine) -> None:
    async def three() -> list[list[int]]:
        seeds: tuple[int | None, ...] = (-7, -7, 1 << 70, None, None)
        jobs = [take(engine, PROMPT, EngineSampling(60, temperature=2.0, seed=seed)) for seed in seeds]
        return [ids_of(deltas) for deltas in await asyncio.gather(*jobs)]

    first, again, other, some, any_ = asyncio.run(three())
    assert first == again
    assert len({tuple(ids) for ids in (first, other, some, any_)}) == 4


def test_a_tiny_nucleus_is_greedy(engine: Engine, published: Published) -> None:
    for top_p in (0.0, 1e-6):
        deltas = asyncio.run(take(engine, PROMPT, EngineSampling(30, temperature=1.0, top_p=top_p, seed=1)))
        assert ids_of(deltas) == greedy(published.model, PROMPT, 30)


@in_tokens
@pytest.mark.parametrize(
    ("ids", "sampling", "words"),
    [
        ([5, VOCAB], EngineSampling(5), str(VOCAB)),
        ([-1], EngineSampling(5), "-1"),
        ([5], EngineSampling(CONTEXT), f"context holds {CONTEXT}"),
        ([5] * CONTEXT, EngineSampling(1), f"context holds {CONTEXT}"),
        ([5], EngineSampling(5, stop_ids=(VOCAB,)), "stop ids"),
    ],
)
def test_bad_tokens_are_refused_at_once(engine: Engine, ids: list[int], sampling: EngineSampling, words: str) -> None:
    refused_at_once(engine, ids, sampling, words)


@pytest.mark.parametrize(
    ("ids", "sampling", "words"),
    [
        ([], EngineSampling(5), "no to|no text"),
        ([5], EngineSampling(0), "max_new_tokens"),
        ([5], EngineSampling(5, temperature=-0.1), "temperature"),
        ([5], EngineSampling(5, temperature=float("nan")), "temperature"),
        ([5], EngineSampling(5, temperature=1, top_p=-0.1), "top_p"),
        ([5], EngineSampling(5, temperature=1, top_p=1.1), "top_p"),
    ],
)
def test_bad_input_is_refused_at_once(engine: Engine, ids: list[int], sampling: EngineSampling, words: str) -> None:
    refused_at_once(engine, ids, sampling, words)


def refused_at_once(engine: Engine, ids: list[int], sampling: EngineSampling, words: str) -> None:
    async def work() -> None:
        with pytest.raises(BadInputError, match=words):
            engine.submit(ids, sampling)

    asyncio.run(work())


def test_too_long_says_so_to_machines(engine: Engine) -> None:
    async def work() -> None:
        with pytest.raises(BadInputError) as caught:
            await anext(aiter(engine.submit([5], EngineSampling(CONTEXT))))
        assert caught.value.extras["code"] == "context_length_exceeded"

    asyncio.run(work())


def test_an_adapter_is_refused_not_ignored(engine: Engine) -> None:
    async def work() -> None:
        with pytest.raises(UnsupportedError, match="my-lora"):
            engine.submit(PROMPT, EngineSampling(5), adapter="my-lora")

    asyncio.run(work())


def test_stats(fresh: Engine) -> None:
    asyncio.run(take(fresh, PROMPT, EngineSampling(30)))
    stats = fresh.stats()
    assert (stats.state, stats.running, stats.waiting, stats.finished, stats.failed) == ("ready", 0, 0, 1, 0)
    assert (stats.prompt_tokens, stats.generated_tokens) == (len(PROMPT), 30)
    assert stats.tokens_per_s > 0


def test_stop_in_the_middle(fresh: Engine) -> None:
    async def work() -> None:
        streams = [fresh.submit(PROMPT, EngineSampling(230)) for _ in range(3)]
        await anext(aiter(streams[0]))
        await asyncio.to_thread(fresh.stop)
        for stream in streams:
            with pytest.raises(UnavailableError, match="stopped"):
                async for _ in stream:
                    pass
        with pytest.raises(UnavailableError, match="stopped"):
            fresh.submit(PROMPT, EngineSampling(5))

    asyncio.run(work())
    assert fresh.stats().state == "stopped"
    fresh.stop()  # once more does no harm


def test_stop_after_what_is_queued(fresh: Engine, published: Published) -> None:
    async def work() -> list[list[TokenDelta]]:
        readers = [asyncio.create_task(take(fresh, PROMPT, EngineSampling(40))) for _ in range(3)]
        await until(lambda: fresh.stats().running > 0, "nothing runs")
        await asyncio.to_thread(fresh.stop, 30.0)
        return await asyncio.gather(*readers)

    assert [ids_of(deltas) for deltas in asyncio.run(work())] == [greedy(published.model, PROMPT, 40)] * 3


def test_not_started_and_started_twice(kind: str, published: Published) -> None:
    engine = engine_of(kind, published.folder)

    async def work() -> None:
        with pytest.raises(UnavailableError, match="not started"):
            engine.submit(PROMPT, EngineSampling(5))

    asyncio.run(work())
    engine.stop()
    with pytest.raises(UnavailableError):
        engine.start()


def test_an_idle_engine_burns_no_cpu(engine: Engine) -> None:
    asyncio.run(take(engine, PROMPT, EngineSampling(5)))
    before = time.process_time()
    deadline = time.monotonic() + 0.5
    while time.monotonic() < deadline:
        time.sleep(0.1)  # nothing to wait for: this is half a second in which nothing may happen
    assert time.process_time() - before < 0.2


def test_readers_on_two_event_loops(engine: Engine, published: Published) -> None:
    async def work() -> tuple[list[TokenDelta], list[TokenDelta]]:
        elsewhere = asyncio.to_thread(lambda: asyncio.run(take(engine, PROMPT, EngineSampling(40))))
        one, other = await asyncio.gather(take(engine, PROMPT, EngineSampling(40)), elsewhere)
        return one, other

    expected = greedy(published.model, PROMPT, 40)
    assert [ids_of(deltas) for deltas in asyncio.run(work())] == [expected, expected]


@in_tokens
def test_the_end_of_text_id_stops_when_asked(engine: Engine) -> None:
    """A sampled run with every second id a stop ends at the first of them."""
    stops = tuple(range(EOS, EOS + 126, 2))
    deltas = asyncio.run(take(engine, PROMPT, EngineSampling(200, temperature=2.0, seed=3, stop_ids=stops[:64])))
    ids = ids_of(deltas)
    assert deltas[-1].finish == "stop"
    assert ids[-1] in stops
    assert not set(ids[:-1]) & set(stops[:64])
