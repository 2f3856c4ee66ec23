"""A closed-loop load of distinct questions against the chat endpoint, and its percentiles."""

from __future__ import annotations

import asyncio
import os
import platform
import random
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx

from cluster.core.config import available_cpus
from cluster.core.storage import utc_now

VERBS = ("copy", "read", "write", "sort", "parse", "compress", "open", "close", "join", "split", "find", "replace",
         "count", "convert", "compare", "encode", "decode", "create", "delete", "list", "measure",
         "schedule")  # fmt: skip
THINGS = ("a file", "a list", "a string", "a date", "a directory", "a socket", "a thread", "an archive", "an e-mail",
          "a dictionary", "a number", "a regular expression", "an XML document", "a CSV table", "a temporary file",
          "a URL", "a process", "a queue", "a decimal", "an iterator")  # fmt: skip
MANNERS = ("quickly", "safely", "line by line", "without loading everything", "in the background", "with a timeout",
           "in reverse", "recursively", "atomically", "from bytes")  # fmt: skip


def distinct_questions(seed: int = 0) -> Iterator[str]:
    """4,400 different questions in a seeded order, each asked once."""
    every = [f"How do I {verb} {thing} {manner}?" for verb in VERBS for thing in THINGS for manner in MANNERS]
    random.Random(seed).shuffle(every)  # noqa: S311 (not cryptography)
    yield from every


def measure(base_url: str, model: str, levels: Sequence[int], requests: int) -> dict[str, Any]:
    """Latencies (ms) at each concurrency, after 20 unmeasured calls.

    Returns:
        {"machine", "date", "levels": [{"concurrency", "requests", "errors", "p50_ms", "p95_ms", "p99_ms",
        "requests_per_s", "stages": {stage: {"p50_ms", "p95_ms"}}}]}
    """
    questions = distinct_questions()
    asyncio.run(_level(base_url, model, 2, [next(questions) for _ in range(20)]))
    found = [asyncio.run(_level(base_url, model, n, [next(questions) for _ in range(requests)])) for n in levels]
    return {"date": utc_now(), "machine": machine(), "model": model, "levels": found}


async def _level(base_url: str, model: str, concurrency: int, questions: list[str]) -> dict[str, Any]:
    waiting, latencies, errors = iter(questions), [], 0
    stages: dict[str, list[float]] = defaultdict(list)
    limits = httpx.Limits(max_connections=concurrency, max_keepalive_connections=concurrency)

    async with httpx.AsyncClient(base_url=base_url, timeout=60, limits=limits, trust_env=False) as client:

        async def worker() -> None:
            nonlocal errors
            for question in waiting:
                body = {"model": model, "messages": [{"role": "user", "content": question}]}
                begun = time.perf_counter()
                reply = await client.post("/v1/chat/completions", json=body)
                if reply.status_code != 200:
                    errors += 1
                    continue
                latencies.append((time.perf_counter() - begun) * 1000)
                for stage, value in reply.json()["plinth"]["timings_ms"].items():
                    stages[stage].append(value)

        begun = time.perf_counter()
        await asyncio.gather(*(worker() for _ in range(concurrency)))
        seconds = time.perf_counter() - begun
    return {
        "concurrency": concurrency,
        "requests": len(questions),
        "errors": errors,
        "p50_ms": percentile(latencies, 50),
        "p95_ms": percentile(latencies, 95),
        "p99_ms": percentile(latencies, 99),
        "requests_per_s": len(latencies) / seconds,
        "stages": {k: {"p50_ms": percentile(v, 50), "p95_ms": percentile(v, 95)} for k, v in stages.items()},
    }


def percentile(values: Sequence[float], q: float) -> float:
    """Nearest-rank percentile; NaN for no values."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * q / 100))] if ordered else float("nan")


def machine() -> dict[str, Any]:
    """What a figure must be read with: CPU model, usable CPUs, load, Python."""
    names = [
        line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line
    ]
    return {
        "cpu": names[0] if names else platform.machine(),
        "cpus": available_cpus(),
        "load_1min": os.getloadavg()[0],
        "python": platform.python_version(),
    }
