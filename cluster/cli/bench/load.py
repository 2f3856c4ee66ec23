"""A closed-loop load of distinct questions against the chat endpoint, and its percentiles."""

from __future__ import annotations

import asyncio
import os
import platform
import random
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import httpx

from cluster.core.config import available_cpus
from cluster.core.storage import utc_now
from cluster.loopback import bearer

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


@dataclass
class Measured:
    """What some rounds at one concurrency gave: latencies in ms, seconds that the rounds took, ms by stage."""

    requests: int = 0
    errors: int = 0
    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)
    stages: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    @property
    def requests_per_s(self) -> float:
        """Answers a second."""
        return len(self.latencies) / self.seconds if self.seconds else float("nan")

    def to_dict(self) -> dict[str, Any]:
        """Percentiles, as ``measure`` returns them."""
        return {
            "requests": self.requests,
            "errors": self.errors,
            "p50_ms": percentile(self.latencies, 50),
            "p95_ms": percentile(self.latencies, 95),
            "p99_ms": percentile(self.latencies, 99),
            "requests_per_s": self.requests_per_s,
            "stages": {k: {"p50_ms": percentile(v, 50), "p95_ms": percentile(v, 95)} for k, v in self.stages.items()},
        }


def measure(
    base_url: str, model: str, levels: Sequence[int], requests: int, against: str | None = None
) -> dict[str, Any]:
    """Latencies (ms) at each concurrency, after 20 unmeasured calls.

    Args:
        against: another running service: both are asked in turns, in four rounds (one, the other, the other, the one),
            so that what the machine does besides meets both alike.

    Returns:
        {"machine", "date", "levels": [{"concurrency", "requests", "errors", "p50_ms", "p95_ms", "p99_ms",
        "requests_per_s", "stages": {stage: {"p50_ms", "p95_ms"}}}]}; with ``against`` each level also has its
        figures there (``against``) and ``ratio``, of the requests per second here to those there.
    """
    questions = distinct_questions()

    def asked(url: str, concurrency: int, count: int, into: Measured) -> None:
        asyncio.run(_round(url, model, concurrency, list(islice(questions, count)), into))

    for url in filter(None, (base_url, against)):
        asked(url, 2, 20, Measured())
    found = []
    for level in levels:
        here, there = Measured(), Measured()
        if against is None:
            asked(base_url, level, requests, here)
            found.append({"concurrency": level, **here.to_dict()})
            continue
        half = max(1, requests // 2)
        for url, into in ((base_url, here), (against, there), (against, there), (base_url, here)):
            asked(url, level, half, into)
        ratio = here.requests_per_s / there.requests_per_s if there.latencies else None
        found.append({"concurrency": level, **here.to_dict(), "against": there.to_dict(), "ratio": ratio})
    return {"date": utc_now(), "machine": machine(), "model": model, "levels": found}


async def _round(base_url: str, model: str, concurrency: int, questions: list[str], into: Measured) -> None:
    waiting = iter(questions)
    limits = httpx.Limits(max_connections=concurrency, max_keepalive_connections=concurrency)

    # What is measured is answering, not repeating answers.
    anew = {"cache-control": "no-store", **bearer()}
    async with httpx.AsyncClient(base_url=base_url, timeout=60, limits=limits, trust_env=False, headers=anew) as client:

        async def worker() -> None:
            for question in waiting:
                body = {"model": model, "messages": [{"role": "user", "content": question}]}
                begun = time.perf_counter()
                reply = await client.post("/v1/chat/completions", json=body)
                if reply.status_code != 200:
                    into.errors += 1
                    continue
                into.latencies.append((time.perf_counter() - begun) * 1000)
                for stage, value in reply.json()["plinth"]["timings_ms"].items():
                    into.stages[stage].append(value)

        begun = time.perf_counter()
        await asyncio.gather(*(worker() for _ in range(concurrency)))
        into.seconds += time.perf_counter() - begun
    into.requests += len(questions)


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
