"""The same prompts to several OpenAI-compatible servers, in turns in one run, and what each of them made of it."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import httpx

from cluster.cli.bench.load import distinct_questions, machine, percentile
from cluster.cli.bench.streamed import Reply, degraded, streamed
from cluster.core.errors import BadInputError, EnvironmentFaultError
from cluster.core.storage import utc_now

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
WARM_UP = 4
ROUNDS = 2
TIMEOUT_S = 120.0
# What is measured is answering, not repeating answers.
ANEW = {"cache-control": "no-store"}


@dataclass(frozen=True)
class Server:
    """Whom to ask: a name for the table, scheme with host and port, what it calls the model, headers (of ours only)."""

    name: str
    url: str
    model: str
    headers: dict[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class Question:
    """What every server is asked: the route, the longest answer in tokens, whether as a stream."""

    path: str = CHAT
    max_tokens: int = 64
    stream: bool = True


@dataclass
class Tally:
    """What some rounds at one concurrency gave on one server."""

    seconds: float = 0.0
    replies: list[Reply] = field(default_factory=list)
    failed: Counter[str] = field(default_factory=Counter)

    def to_dict(self) -> dict[str, Any]:
        """Figures of one side, as ``measure`` returns them."""
        whole = [reply.all_s * 1000 for reply in self.replies]
        first = [reply.first_s * 1000 for reply in self.replies if reply.first_s]
        tokens = sum(reply.tokens for reply in self.replies)
        return {
            "requests": len(self.replies) + self.failed.total(), "failed": self.failed.total(),
            "codes": dict(self.failed.most_common()), "p50_ms": _at(whole, 50), "p95_ms": _at(whole, 95),
            "first_p50_ms": _at(first, 50), "first_p95_ms": _at(first, 95),
            "requests_per_s": _over(len(self.replies), self.seconds), "tokens": tokens,
            "tokens_per_s": _over(tokens or None, self.seconds),
        }  # fmt: skip


def measure(
    servers: Sequence[Server], question: Question, levels: Sequence[int], requests: int | None
) -> dict[str, Any]:
    """Ask every server the same at each concurrency, in two rounds of opposite order, each with prompts of its own.

    Args:
        servers: the first is the one that the others are compared with.
        requests: to each server at each level, and one for each client in a round at least; None takes four for each
            client and at least 40.

    Returns:
        {"machine", "date", "path", "stream", "max_tokens", "servers": {name: model}, "levels": [{"concurrency",
        "servers": {name: {"requests", "failed", "codes": {why: count}, "p50_ms", "p95_ms", "first_p50_ms",
        "first_p95_ms", "requests_per_s", "tokens", "tokens_per_s"}}, "ratios": {name: {figure: first / that one}}}]}.
        Null: not known. Tokens are what each server counts, times those of calls answered in full; an answer by another
        tier than the one asked for counts as failed.

    Raises:
        EnvironmentFaultError: nothing answers at one of the URLs.
        BadInputError: one refuses the question.
    """
    questions = distinct_questions()
    for server in servers:
        asyncio.run(_warm_up(server, question, list(islice(questions, WARM_UP))))
    found = []
    for level in levels:
        tallies = {server.name: Tally() for server in servers}
        each = max(level, (requests or max(40, 4 * level)) // ROUNDS)
        for turn in range(ROUNDS):
            prompts = list(islice(questions, each))
            if len(prompts) < each:
                questions = distinct_questions(turn + level)  # all were asked: once more, in another order
                prompts += islice(questions, each - len(prompts))
            for server in servers if turn % 2 == 0 else reversed(servers):
                asyncio.run(_round(server, question, level, prompts, tallies[server.name]))
        sides = {name: tally.to_dict() for name, tally in tallies.items()}
        ours = sides[servers[0].name]
        ratios = {server.name: _ratios(ours, sides[server.name]) for server in servers[1:]}
        found.append({"concurrency": level, "servers": sides, "ratios": ratios})
    return {
        "date": utc_now(), "machine": machine(), "path": question.path, "stream": question.stream,
        "max_tokens": question.max_tokens, "servers": {s.name: s.model for s in servers}, "levels": found,
    }  # fmt: skip


def _client(server: Server, connections: int) -> httpx.AsyncClient:
    limits = httpx.Limits(max_connections=connections, max_keepalive_connections=connections)
    headers = {**ANEW, **server.headers}
    return httpx.AsyncClient(base_url=server.url, timeout=TIMEOUT_S, limits=limits, trust_env=False, headers=headers)


async def _warm_up(server: Server, question: Question, prompts: Sequence[str]) -> None:
    async with _client(server, 1) as client:
        for prompt in prompts:
            try:
                await _asked(client, server, question, prompt)
            except httpx.HTTPStatusError as error:
                said = f"HTTP {error.response.status_code}"
                raise BadInputError(f"{server.name} at {server.url} refuses {question.path}: {said}") from error
            except httpx.HTTPError as error:
                raise EnvironmentFaultError(f"{server.name} does not answer at {server.url}: {error!r}") from error


async def _round(server: Server, question: Question, concurrency: int, prompts: Sequence[str], into: Tally) -> None:
    waiting = iter(prompts)
    async with _client(server, concurrency) as client:

        async def worker() -> None:
            for prompt in waiting:
                try:
                    into.replies.append(await _asked(client, server, question, prompt))
                except httpx.HTTPStatusError as error:
                    into.failed[str(error.response.status_code)] += 1
                except httpx.HTTPError as error:
                    into.failed[type(error).__name__] += 1
                except BadInputError as error:
                    into.failed[error.extras.get("code", "stream")] += 1
                except ValueError:
                    into.failed["no JSON"] += 1

        begun = time.perf_counter()
        await asyncio.gather(*(worker() for _ in range(concurrency)))
        into.seconds += time.perf_counter() - begun


async def _asked(client: httpx.AsyncClient, server: Server, question: Question, prompt: str) -> Reply:
    text = {"messages": [{"role": "user", "content": prompt}]} if question.path == CHAT else {"prompt": prompt}
    body = {"model": server.model, **text, "max_tokens": question.max_tokens, "temperature": 0}
    if question.stream:
        reply = await streamed(client, question.path, body)
    else:
        begun = time.perf_counter()
        answer = await client.post(question.path, json=body)
        answer.raise_for_status()
        seconds = time.perf_counter() - begun
        said = answer.json()
        usage = said.get("usage") or {}
        reply = Reply(usage.get("completion_tokens", 0), 0.0, seconds, usage.get("prompt_tokens", 0), degraded(said))
    if reply.degraded:
        raise BadInputError(f"another tier of {server.name} answered than {server.model}", code="degraded")
    return reply


def _at(values: Sequence[float], q: float) -> float | None:
    return percentile(values, q) if values else None


def _over(part: float | None, whole: float | None) -> float | None:
    return part / whole if part is not None and whole else None


def _ratios(ours: dict[str, Any], theirs: dict[str, Any]) -> dict[str, float | None]:
    """Ours over theirs: of rates more is better, of times less."""
    figures = ("requests_per_s", "tokens_per_s", "p50_ms", "p95_ms", "first_p50_ms")
    return {figure: _over(ours[figure], theirs[figure]) for figure in figures}
