"""The HTTP application over fakes: in process, or on a real socket."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI
from starlette.testclient import TestClient

from actors.feedback.book import TABLES, FeedbackBook, Given, digest_of_answer
from actors.ledger.database import Database
from actors.review.queue import TABLES as REVIEW_TABLES
from actors.review.queue import Item, ReviewQueue
from cluster.core.home import Home
from cluster.core.sections.feedback import FeedbackSection, ReviewSection
from cluster.core.sections.serve import ServeSection
from cluster.core.sections.trust import TrustSection
from data_jobs.pii import redact
from serve_apps.api.openai_http import build_http
from serve_apps.gateway.audit_trail import AuditTrail, masked
from serve_apps.gateway.cache_key import Versions
from serve_apps.gateway.doorkeeper import Doorkeeper
from serve_apps.gateway.feedback import FeedbackDesk
from serve_apps.gateway.gateway import Gateway
from serve_apps.gateway.request_log import Journal
from serve_apps.gateway.reviewing import ReviewDesk
from serve_apps.guards.personal import LONGEST
from serve_apps.guards.policy import Policies
from serve_apps.metrics.operations import Operations
from serve_apps.routing.learned import LearnedRouter
from serve_apps.routing.rules import Features
from tests.fakes import TEXT, FixedRetriever, MemoryRecorder, RealGuard, ScriptedTier
from train_jobs.answering.conversation import standalone_question

PEPPER = bytes(range(32))
FOUND = Item("default", "main", "rules", "weapons", "7", "lab@3", "why", 0.0, "How do I copy a directory tree?")
EMBEDDER = "all-minilm-l6-v2"
QUESTION = "How do I copy a directory tree?"
CHAT = {"model": "auto", "messages": [{"role": "user", "content": QUESTION}]}


@dataclass
class Service:
    """One application with its fakes, and everything it logged and measured."""

    guard: Any = field(default_factory=RealGuard)
    retriever: Any = field(default_factory=FixedRetriever)
    tier: Any = field(default_factory=ScriptedTier)
    models: dict[str, Any] = field(default_factory=dict)
    features: Features = field(default_factory=Features)
    section: ServeSection = field(default_factory=ServeSection)
    recorder: MemoryRecorder = field(default_factory=MemoryRecorder)
    log: list[dict[str, Any]] = field(default_factory=list)
    noted: list[tuple[Any, ...]] = field(default_factory=list)
    metrics: Any = None
    also: Any = lambda record: None
    learned: LearnedRouter | None = None
    versions: Versions = field(default_factory=Versions)
    budget: Any = None
    trail: AuditTrail | None = None
    policies: Policies | None = None
    feedback: FeedbackDesk | None = None
    review: ReviewDesk | None = None
    quote_of: Any = None
    answers: Path | None = None
    gateway: Gateway | None = None
    doorkeeper: Doorkeeper = field(default_factory=lambda: Doorkeeper(None, TrustSection()))
    home: Home = field(default_factory=lambda: Home(Path("/nonexistent/plinth")))

    def _write(self, component: str, event: str, **fields: Any) -> None:
        self.log.append({"component": component, "event": event, **fields})

    def app(self) -> FastAPI:
        gateway = Gateway(
            self.section,
            guard=self.guard,
            retriever=self.retriever,
            tiers={"quote": self.tier, **self.models},
            embedding_model=EMBEDDER,
            question_of=standalone_question,
            longest_finding=LONGEST,
            journal=Journal(self.recorder, self._write, self.also),
            features_of=lambda question, retrieval: self.features,
            note_gap=lambda *what: self.noted.append(what),
            learned=self.learned,
            versions=self.versions,
            budget=self.budget,
            trail=self.trail,
            policies=self.policies,
            feedback=self.feedback,
            review=self.review,
            quote_of=self.quote_of,
            answers=self.answers,
        )
        self.gateway = gateway

        async def metrics() -> str:
            return "# HELP plinth_requests_total Requests.\n"

        source = self.metrics or metrics
        operations = Operations(gateway, self.section, self.home, source)
        return build_http(gateway, self.section, source, operations, self.doorkeeper)

    def client(self) -> TestClient:
        return TestClient(self.app(), base_url="http://127.0.0.1:8000", raise_server_exceptions=False)


@contextmanager
def on_socket(app: FastAPI, port: int = 0) -> Iterator[str]:
    """Serve on a free loopback port (or this one) in a thread; yields the base URL."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    server = uvicorn.Server(uvicorn.Config(app, log_level="critical", lifespan="off"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    deadline = time.monotonic() + 10
    while not server.started:
        assert time.monotonic() < deadline, "the server did not start"
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(10)
        listener.close()


def path_of(route: str) -> str:
    """A path of a route at which there is something."""
    if route == "/v1/review/{id}":
        return route.replace("{id}", FOUND.named.id)
    path = route.replace("{id:path}", "auto").replace("{name:path}", "page.js")
    return path.replace("{id}", "main").replace("{collection}", "main")


def desks(tenant: str = "default") -> dict[str, Any]:
    """Real desks over databases in memory: one knows the answer ``ans_main`` of a tenant, and one item of ``default``
    is to be reviewed."""
    book = FeedbackBook(Database("sqlite://", TABLES))
    book.note([Given("ans_main", tenant, digest_of_answer(PEPPER, QUESTION, TEXT))])
    found = ReviewQueue(Database("sqlite://", REVIEW_TABLES))
    found.put([FOUND])
    return {
        "feedback": FeedbackDesk(book, FeedbackSection(), PEPPER, masked(redact)),
        "review": ReviewDesk(found, ReviewSection(), masked(redact)),
    }


def eventually(condition: Any, seconds: float = 5.0) -> None:
    """Poll until ``condition()`` holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.01)
