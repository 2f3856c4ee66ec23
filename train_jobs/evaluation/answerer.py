"""Who is being evaluated: anything that turns a question into an answer, in this process or behind HTTP."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import httpx

from cluster.core.errors import EnvironmentFaultError, PlinthError
from cluster.core.records import Answer, Citation
from cluster.core.sections.answer import AnswerSection
from data_jobs.retrieval.results import Retrieval
from train_jobs.answering.conversation import standalone_question
from train_jobs.answering.quote import answer


@dataclass(frozen=True)
class Reply:
    """An answer, how long it took (ms, wall clock at the caller), and where known what was retrieved, best first."""

    answer: Answer
    ms: float
    retrieved: tuple[str, ...] = ()
    index_version: str = ""


class Answerer(Protocol):
    """Answers one question; ``name`` says what was evaluated (``quote in process``, ``http://...``)."""

    @property
    def name(self) -> str:
        """What a report says was evaluated."""
        ...

    def ask(self, question: str) -> Reply:
        """Answer one question, asked alone, and take the time.

        Raises:
            PlinthError: no answer could be had; an abstention is an answer.
        """
        ...


class Searching(Protocol):
    """The part of a searcher that answering needs."""

    def search(self, question: str, k: int | None = None) -> Retrieval:
        """The passages for a question, best first; ``k`` is how many at most, None as many as are configured."""
        ...


class InProcessAnswerer:
    """Searches and quotes in this process: what the quote tier does, without the service around it."""

    def __init__(
        self,
        searcher: Searching,
        section: AnswerSection,
        make: Callable[[str, Retrieval, AnswerSection], Answer] = answer,
    ) -> None:
        self._searcher, self._section, self._make = searcher, section, make
        self.name = "quote in process"

    def ask(self, question: str) -> Reply:
        """Search and quote; the time covers both, and the reply names the documents that the search found."""
        begun = time.perf_counter()
        search_question = standalone_question([("user", question)])
        retrieval = self._searcher.search(search_question)
        made = self._make(search_question, retrieval, self._section)
        return Reply(
            made,
            (time.perf_counter() - begun) * 1000,
            tuple(passage.document for passage in retrieval.passages),
            retrieval.index_version,
        )


class HttpAnswerer:
    """Asks a running service: ``POST {base_url}/v1/chat/completions``, reading the ``plinth`` object of the response.

    Args:
        base_url: scheme, host and port, with or without ``/v1``.
        api_key: sent as a bearer token where given.
        client: an ``httpx.Client`` to use (a test hands in one with a mock transport).
    """

    def __init__(
        self,
        base_url: str,
        model: str = "quote",
        api_key: str = "",
        timeout_s: float = 30.0,
        client: httpx.Client | None = None,
    ) -> None:
        self._url = base_url.rstrip("/").removesuffix("/v1") + "/v1/chat/completions"
        self._model = model
        self._client = client or httpx.Client(timeout=timeout_s)
        self._headers = {"authorization": f"Bearer {api_key}"} if api_key else {}
        self.name = f"{model} at {self._url}"

    def ask(self, question: str) -> Reply:
        """Raises:
        EnvironmentFaultError: nothing answers there.
        PlinthError: the service refused the question, or sent something that is not an answer.
        """
        body = {"model": self._model, "messages": [{"role": "user", "content": question}]}
        begun = time.perf_counter()
        try:
            response = self._client.post(self._url, json=body, headers=self._headers)
        except httpx.TransportError as error:
            raise EnvironmentFaultError(f"no answer from {self._url}: {error}; is the service up?") from error
        ms = (time.perf_counter() - begun) * 1000
        if response.status_code != 200:
            raise PlinthError(f"{self._url} answered {response.status_code}: {response.text[:300]}")
        try:
            return _reply(response.json(), ms)
        except (ValueError, KeyError, TypeError, IndexError) as error:
            raise PlinthError(f"{self._url} sent no Plinth answer: {error!r}: {response.text[:300]}") from error


def _reply(body: dict[str, Any], ms: float) -> Reply:
    extra = body["plinth"]
    citations: Sequence[dict[str, Any]] = extra["citations"]
    made = Answer(
        text=body["choices"][0]["message"]["content"],
        citations=tuple(map(Citation.from_dict, citations)),
        grounded=extra["grounded"],
        reason=extra.get("reason", ""),
        confidence=extra.get("confidence", 0.0),
        dropped_passages=extra.get("dropped_passages", 0),
    )
    return Reply(made, ms, index_version=extra.get("index_version", ""))
