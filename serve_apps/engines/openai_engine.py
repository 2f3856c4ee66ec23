"""A model that answers on another OpenAI-compatible server: text goes out, text comes in, nothing is computed here.

It is an engine like the others but for its units, which are texts: the other server has the tokenizer. Only requests
that a caller has checked go out, over one connection each, which closes when nobody listens any more. No redirect is
followed, no proxy or key is taken from the environment, and nothing the other server says of an error is passed on.
"""

from __future__ import annotations

import asyncio
import logging
import math
import ssl
import threading
import time
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import httpx

from cluster.core.errors import BadInputError, EnvironmentFaultError, PlinthError, UnsupportedError
from cluster.core.sections.tiers import OPTIONS, TierConfig
from serve_apps.engines.key_file import read_key
from serve_apps.engines.openai_reply import Answer, Written, error_code
from serve_apps.engines.protocol import Capabilities, EngineStats
from serve_apps.engines.server_events import EventReader
from serve_apps.engines.stream import Rate
from serve_apps.errors import TOO_LONG, UnavailableError

CHAT, CONTINUE = "/chat/completions", "/completions"
CONTEXT_TOKENS = 8192  # where the tier does not say
LAST_WORDS_S = 1.0  # after the end of the text, for the server's own count of tokens
AGAIN_S, LONGEST_AGAIN_S = 2.0, 60.0  # how long a server that is not reached, or says so, is left alone
MOST_CHARS_PER_TOKEN = 64  # a server that sends more has not counted
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TextSampling:
    """How text is chosen; what is None is left to the other server. ``stop``: strings that end it, not delivered."""

    max_new_tokens: int
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()


class OpenAIEngine:
    """Asks another server.

    Args:
        tier: one with ``engine: openai``.
    """

    def __init__(self, tier: TierConfig) -> None:
        self.name = f"openai:{tier.host}"
        self._tier, self._key_file = tier, Path(tier.key_file).expanduser() if tier.key_file else None
        self._ssl: ssl.SSLContext | None = None
        self._capabilities: Capabilities | None = None
        self._stopped = False
        self._clients: WeakKeyDictionary[asyncio.AbstractEventLoop, httpx.AsyncClient] = WeakKeyDictionary()
        self._idle = threading.Condition()
        self._running: dict[asyncio.Task[None], asyncio.AbstractEventLoop] = {}  # guarded by _idle
        self._not_before = 0.0
        self._rate = Rate()
        self._totals = dict.fromkeys(("prompt_tokens", "generated_tokens", "finished", "cancelled", "failed"), 0)

    # -- any thread --------------------------------------------------------------------------------------------------
    def start(self) -> Capabilities:
        """Make ready; the other server is not asked for anything.

        Raises:
            EnvironmentFaultError: the key file cannot be used.
            UnavailableError: it was started before.
        """
        if self._capabilities is not None or self._stopped:
            raise UnavailableError(f"engine {self.name} was started before: make a new one")
        self._headers()
        self._ssl = httpx.create_ssl_context(trust_env=False)
        self._capabilities = Capabilities(
            engine="openai", precision="", context_tokens=self._tier.context_tokens or CONTEXT_TOKENS, vocab=0,
            concurrent=self._tier.max_batch,
        )  # fmt: skip
        return self._capabilities

    def submit(
        self, prompt: str | Sequence[Mapping[str, str]], sampling: TextSampling, adapter: str | None = None
    ) -> AsyncGenerator[Written, None]:
        """What the other model writes: after a text, or in answer to messages of ``role`` and ``content``.

        Closing or dropping the generator, and cancelling who reads it, closes the connection.

        Raises:
            BadInputError: nothing to send, or sampling out of range.
            UnsupportedError: an option that the tier does not declare (``takes``), or an adapter.
            UnavailableError: not started, stopped, or the other server asked to be left alone for a while. While it is
                read: the other server is not reached, refuses, falls silent or breaks off; with ``retry_after_s`` where
                it says so.
        """
        if self._stopped:
            raise self._closed()
        if self._capabilities is None:
            raise UnavailableError(f"engine {self.name} is not started")
        if adapter is not None:
            raise UnsupportedError(f"engine openai takes no adapters: serve {adapter!r} as a tier")
        body = self._body(prompt, sampling)
        if (left := self._not_before - time.monotonic()) > 0:
            raise UnavailableError(
                f"{self._tier.host} did not answer, or asked for a pause", retry_after_s=math.ceil(left)
            )
        most = MOST_CHARS_PER_TOKEN * sampling.max_new_tokens
        return self._written(CONTINUE if isinstance(prompt, str) else CHAT, body, most)

    def stats(self) -> EngineStats:
        """How busy the engine is right now; what waits for a free connection counts as running."""
        return EngineStats(
            state="stopped" if self._stopped else "ready", running=len(self._running), waiting=0,
            tokens_per_s=self._rate.per_second(), cache_usage=0.0, **self._totals,
        )  # fmt: skip

    def stop(self, drain_s: float = 0.0) -> None:
        """Send nothing more, wait up to ``drain_s`` for what is being answered (not on its own event loop), and close
        the connections of the rest."""
        with self._idle:
            self._stopped = True
            if drain_s:
                self._idle.wait_for(lambda: not self._running, drain_s)
            for task, loop in self._running.items():
                with suppress(RuntimeError):  # its loop has ended
                    loop.call_soon_threadsafe(task.cancel)

    # -- one request -------------------------------------------------------------------------------------------------
    def _body(self, prompt: str | Sequence[Mapping[str, str]], sampling: TextSampling) -> dict[str, Any]:
        if not prompt:
            raise BadInputError("the prompt holds no text")
        wanted = {name: value for name, value in asdict(sampling).items() if value is not None and value != ()}
        limit = wanted.pop("max_new_tokens")
        if limit < 1:
            raise BadInputError(f"max_new_tokens is {limit}: ask for one token at least")
        # Written so that NaN is refused too.
        if not 0.0 <= wanted.get("temperature", 0.0) <= 100.0:
            raise BadInputError(f"temperature {sampling.temperature} is not between 0 and 100")
        if not 0.0 <= wanted.get("top_p", 0.0) <= 1.0:
            raise BadInputError(f"top_p {sampling.top_p} is not between 0 and 1")
        if undeclared := [name for name in OPTIONS if name in wanted and name not in self._tier.takes]:
            raise UnsupportedError(f"the model of {self._tier.name} takes no {undeclared[0]} (its setting takes)")
        text = {"prompt": prompt} if isinstance(prompt, str) else {"messages": [dict(turn) for turn in prompt]}
        return {
            "model": self._tier.model, **text, self._tier.limit_name: limit, **wanted, "stream": True,
            "stream_options": {"include_usage": True},
        }  # fmt: skip

    def _headers(self) -> dict[str, str]:
        headers = {"accept": "text/event-stream", "accept-encoding": "identity"}
        return headers | {"authorization": f"Bearer {read_key(self._key_file)}"} if self._key_file else headers

    def _client(self) -> httpx.AsyncClient:
        """That of this event loop: connections belong to the loop that made them."""
        loop = asyncio.get_running_loop()
        if (client := self._clients.get(loop)) is None:
            tier, most = self._tier, self._tier.max_batch
            client = self._clients[loop] = httpx.AsyncClient(
                verify=self._ssl or True, trust_env=False, follow_redirects=False,
                timeout=httpx.Timeout(tier.silence_s, connect=tier.connect_s),
                limits=httpx.Limits(max_connections=most, max_keepalive_connections=most),
            )  # fmt: skip
        return client

    async def _written(self, path: str, body: dict[str, Any], most: int) -> AsyncGenerator[Written, None]:
        # In a task of its own: who reads may do so from several, and time limits belong to the task that set them.
        pieces: asyncio.Queue[Written | PlinthError] = asyncio.Queue()
        loop = asyncio.get_running_loop()
        with self._idle:
            if self._stopped:
                raise self._closed()
            task = loop.create_task(self._ask(path, body, most, pieces))
            self._running[task] = loop
        ended, heard = False, 0
        try:
            while not ended:
                piece = await pieces.get()
                if isinstance(piece, PlinthError):
                    ended = True
                    self._count("failed" if not self._stopped else "cancelled", task)
                    raise piece
                # A piece is a token with most servers; how many there were they say at the end.
                new = (piece.completion_tokens or heard) - heard if piece.finish else 1
                heard += new
                self._totals["generated_tokens"] += new
                self._rate.add(max(0, new))
                if piece.finish:
                    ended = True
                    self._totals["prompt_tokens"] += piece.prompt_tokens
                    self._count("finished", task)
                yield piece
        finally:
            if not ended:
                self._count("cancelled", task)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)  # the connection is closed

    def _count(self, how: str, task: asyncio.Task[None]) -> None:
        with self._idle:
            self._totals[how] += 1
            self._running.pop(task, None)
            self._idle.notify_all()

    async def _ask(
        self, path: str, body: dict[str, Any], most: int, pieces: asyncio.Queue[Written | PlinthError]
    ) -> None:
        """Send one request and put what comes of it into ``pieces``: text and its end, or one error."""
        tier, host = self._tier, self._tier.host
        try:
            await self._heard(path, body, most, pieces)
        except asyncio.CancelledError:
            pieces.put_nowait(self._closed())
            raise
        except PlinthError as error:
            pieces.put_nowait(error)
        except httpx.PoolTimeout:
            pieces.put_nowait(UnavailableError(f"{tier.max_batch} requests wait for {host} already"))
        except httpx.ConnectTimeout:
            pieces.put_nowait(self._left_alone(f"{host} was not reached within {tier.connect_s:g} s"))
        except httpx.ConnectError:  # name, network, certificate
            pieces.put_nowait(self._left_alone(f"{host} cannot be reached"))
        except httpx.TimeoutException:
            pieces.put_nowait(UnavailableError(f"{host} was silent for {tier.silence_s:g} s"))
        except httpx.HTTPError as error:
            pieces.put_nowait(UnavailableError(f"{host} broke off ({type(error).__name__})"))

    async def _heard(
        self, path: str, body: dict[str, Any], most: int, pieces: asyncio.Queue[Written | PlinthError]
    ) -> None:
        try:
            headers = self._headers()
        except EnvironmentFaultError as error:
            raise UnavailableError(f"the key for {self._tier.host} cannot be used", cause="key") from error
        async with self._client().stream("POST", self._tier.url + path, json=body, headers=headers) as reply:
            await self._accepted(reply)
            answer = Answer(self._tier.host, most)
            reader = EventReader()
            with suppress(TimeoutError):  # only after the end of the text
                async with asyncio.timeout(None) as patience:
                    # To the end of the reply, so that its connection can be used again.
                    async for data in reply.aiter_raw():
                        self._pass_on(answer, reader.feed(data), pieces)
                        if (answer.finish or answer.over) and patience.when() is None:
                            patience.reschedule(asyncio.get_running_loop().time() + LAST_WORDS_S)
                    self._pass_on(answer, reader.feed(b"", final=True), pieces)
        pieces.put_nowait(answer.end())

    def _pass_on(self, answer: Answer, events: Iterator[str], pieces: asyncio.Queue[Written | PlinthError]) -> None:
        for event in events:
            if answer.over:
                return
            if text := answer.take(event):
                pieces.put_nowait(Written(text))

    async def _accepted(self, reply: httpx.Response) -> None:
        """Raises what a reply that is no stream of events means."""
        host, status = self._tier.host, reply.status_code
        if status == 200 and reply.headers.get("content-type", "").partition(";")[0].strip() == "text/event-stream":
            return
        code = await error_code(reply) if status >= 400 else ""
        said = f"HTTP {status}{f', {code}' if code else ''}"
        log.warning("tier %s: %s answered %s", self._tier.name, host, said)
        if status < 300:
            raise UnavailableError(f"{host} does not stream its answers")
        if status < 400:
            raise UnavailableError(f"{host} sends us elsewhere ({said}), and no redirect is followed")
        if code == TOO_LONG:
            raise BadInputError(f"the text is too long for the model at {host}", code=code)
        if status in (429, 503):
            raise self._left_alone(f"{host} has no room for us ({said})", reply.headers.get("retry-after", ""))
        why = {401: "refuses our key", 403: "refuses our key", 404: "has no such model or address"}.get(status)
        raise UnavailableError(f"{host} {why or 'did not answer'} ({said})")

    def _closed(self) -> UnavailableError:
        return UnavailableError(f"engine {self.name} was stopped")

    def _left_alone(self, why: str, retry_after: str = "") -> UnavailableError:
        """The error, and nothing is sent for as long as the other server says, or for a moment."""
        wait = float(retry_after) if retry_after.isascii() and retry_after.isdigit() else AGAIN_S
        wait = min(max(wait, AGAIN_S), LONGEST_AGAIN_S)
        self._not_before = time.monotonic() + wait
        return UnavailableError(why, retry_after_s=math.ceil(wait))
