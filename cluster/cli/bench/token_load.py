"""Tokens per second of a tier that is a model: its engine alone, and the same prompts over HTTP.

The engine runs from the served version's folder with the service's settings, in a process of its own, while the
service's engine is idle; then the service gets the same prompts while this one is stopped. Closed loop, greedy.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import aclosing, contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

from cluster.cli.bench.load import distinct_questions, machine, percentile
from cluster.cli.bench.streamed import Reply, streamed
from cluster.core.config import PlinthConfig
from cluster.core.errors import BadInputError, EnvironmentFaultError, PlinthError
from cluster.core.storage import Store, utc_now
from cluster.loopback import bearer

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from serve_apps.engines.protocol import Capabilities, Engine

CANDIDATES = 1000  # prompts tried for some whose continuation does not end early
WARM_UP = 4


@dataclass(frozen=True)
class Subject:
    """The served version and what both sides are asked."""

    name: str
    version: str
    folder: Path
    tokenizer: Tokenizer
    stop_ids: tuple[int, ...]
    max_tokens: int

    def ids(self, prompt: str) -> list[int]:
        """Token ids of a prompt, without special tokens around it: what the engine is given directly."""
        return list(self.tokenizer.encode(prompt, add_special_tokens=False).ids)


Call = Callable[[str], Awaitable[Reply]]


def served_model(store: Store, name: str, cache: Path, max_tokens: int) -> Subject | None:
    """The version of the registered model ``name`` that is served; None where no model has that name."""
    from actors.registry.models import Registry

    served = Registry(store).served(name) if name in store.names("models") else None
    if served is None:
        return None
    from tokenizers import Tokenizer

    folder = store.fetch(served.manifest, cache)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    end = json.loads((folder / "tokenizer_config.json").read_text()).get("eos_token")
    end_id = tokenizer.token_to_id(end["content"] if isinstance(end, dict) else end) if end else None
    stops = () if end_id is None else (int(end_id),)
    return Subject(name, served.version, folder, tokenizer, stops, max_tokens)


def measure_tokens(
    config: PlinthConfig, subject: Subject, levels: Sequence[int], requests: int | None, base_url: str | None
) -> dict[str, Any]:
    """Tokens per second of the engine alone and over HTTP at each concurrency.

    Args:
        requests: completions per level; None takes four per client and at least 16.
        base_url: of the running service; None measures the engine alone.

    Returns:
        {"machine", "date", "model", "version", "engine", "precision", "threads", "max_tokens", "levels":
        [{"concurrency", "direct": side, "http": side | None, "ratio": http / direct | None}]} where a side is
        {"requests", "errors", "tokens", "tokens_per_s", "first_p50_ms", "first_p95_ms", "ms_per_token"}.
    """
    tier = config.serve.tier(subject.name)
    wanted = {level: requests or max(16, 4 * level) for level in levels}
    with _engine(config, subject) as (engine, capabilities):
        limit = min(subject.max_tokens, tier.max_new_tokens, capabilities.context_tokens // 2)
        call = _direct(engine, subject, limit)
        prompts = asyncio.run(_long_prompts(call, max(wanted.values()) + WARM_UP, limit, capabilities.concurrent))
        direct = {level: asyncio.run(_level(call, level, prompts, count)) for level, count in wanted.items()}
    http: dict[int, dict[str, Any]] = {}
    if base_url is not None:
        for level, count in wanted.items():
            http[level] = asyncio.run(_http_level(base_url, subject.name, limit, level, prompts, count))
    rows = [
        {"concurrency": n, "direct": direct[n], "http": http.get(n), "ratio": _ratio(direct[n], http.get(n))}
        for n in levels
    ]
    return {
        "date": utc_now(), "machine": machine(), "model": subject.name, "version": subject.version,
        "engine": capabilities.engine, "precision": capabilities.precision, "threads": tier.threads,
        "max_tokens": limit, "levels": rows,
    }  # fmt: skip


@contextmanager
def _engine(config: PlinthConfig, subject: Subject) -> Iterator[tuple[Engine, Capabilities]]:
    from serve_apps.engines import load_engine

    engine = load_engine(config.serve.tier(subject.name), subject.folder)
    try:
        yield engine, engine.start()
    finally:
        engine.stop()


def _direct(engine: Engine, subject: Subject, limit: int) -> Call:
    from serve_apps.engines.protocol import EngineSampling

    sampling = EngineSampling(limit, stop_ids=subject.stop_ids)

    async def call(prompt: str) -> Reply:
        begun, first, tokens = time.perf_counter(), 0.0, 0
        async with aclosing(engine.submit(subject.ids(prompt), sampling)) as deltas:
            async for delta in deltas:
                first = first or time.perf_counter() - begun
                tokens += len(delta.ids)
        return Reply(tokens, first, time.perf_counter() - begun)

    return call


async def _long_prompts(call: Call, count: int, limit: int, concurrent: int) -> list[str]:
    """Prompts whose continuations run to the limit where there are enough of them, else the longest ones."""
    candidates = list(islice(distinct_questions(), CANDIDATES))
    lengths: dict[str, int] = {}
    waiting = iter(candidates)

    async def worker() -> None:
        for prompt in waiting:
            lengths[prompt] = (await call(prompt)).tokens
            if sum(tokens >= limit for tokens in lengths.values()) >= count:
                return

    await asyncio.gather(*(worker() for _ in range(min(concurrent, 32))))
    chosen = sorted(lengths, key=lambda prompt: -lengths[prompt])[:count]
    if not chosen or not lengths[chosen[0]]:
        raise BadInputError("the model continues none of the prompts: there is nothing to measure")
    return chosen


async def _level(call: Call, concurrency: int, prompts: Sequence[str], count: int) -> dict[str, Any]:
    for prompt in prompts[-WARM_UP:]:
        with suppress(httpx.HTTPError, PlinthError):  # not measured; an error that lasts is counted below
            await call(prompt)
    waiting, replies, errors = iter(prompts[:count]), list[Reply](), 0

    async def worker() -> None:
        nonlocal errors
        for prompt in waiting:
            try:
                replies.append(await call(prompt))
            except (httpx.HTTPError, PlinthError):
                errors += 1

    begun = time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(concurrency)))
    seconds = time.perf_counter() - begun
    tokens = sum(reply.tokens for reply in replies)
    firsts = [reply.first_s * 1000 for reply in replies]
    decoding = [1000 * (r.all_s - r.first_s) / (r.tokens - 1) for r in replies if r.tokens > 1]
    return {
        "requests": len(replies) + errors, "errors": errors, "tokens": tokens, "tokens_per_s": tokens / seconds,
        "first_p50_ms": percentile(firsts, 50), "first_p95_ms": percentile(firsts, 95),
        "ms_per_token": percentile(decoding, 50),
    }  # fmt: skip


async def _http_level(
    base_url: str, model: str, limit: int, concurrency: int, prompts: Sequence[str], count: int
) -> dict[str, Any]:
    limits = httpx.Limits(max_connections=concurrency, max_keepalive_connections=concurrency)
    async with httpx.AsyncClient(
        base_url=base_url, timeout=120, limits=limits, trust_env=False, headers=bearer()
    ) as client:

        async def call(prompt: str) -> Reply:
            body = {"model": model, "prompt": prompt, "max_tokens": limit, "temperature": 0}
            return await streamed(client, "/v1/completions", body)

        try:
            await call(prompts[0])
        except httpx.HTTPStatusError as error:
            raise BadInputError(f"{base_url} refuses completions of {model}: {error}") from error
        except httpx.HTTPError as error:
            raise EnvironmentFaultError(f"no service answers at {base_url}: start it with `plinth up`") from error
        return await _level(call, concurrency, prompts, count)


def _ratio(direct: dict[str, Any], http: dict[str, Any] | None) -> float | None:
    return http["tokens_per_s"] / direct["tokens_per_s"] if http and direct["tokens_per_s"] else None
