"""Answering requests (serve_apps, train_jobs/answering)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from cluster.core.sections.base import Section


class AnswerSection(Section):
    """How an answer is made from passages (train_jobs/answering)."""

    max_citations: int = Field(5, ge=1, le=5)
    """Citations of one answer (contract: at most 5)."""
    max_words: int = Field(60, ge=10)
    """Longest answer of the quote tier in words."""
    max_names: int = Field(3, ge=1)
    """Most documents (functions) one answer names."""
    prompt_tokens: int = Field(3072, ge=64)
    """Token budget for question and passages; the lowest passages are dropped first and the answer says so."""
    min_confidence: float = Field(0.4, ge=0, le=1)
    """Below this support probability the tier abstains."""


class ServeSection(Section):
    """The Serve graph (serve_apps)."""

    gateway_replicas: int = Field(1, ge=1)
    """Replicas of the HTTP gateway."""
    retriever_replicas: int = Field(1, ge=1)
    """Replicas of the retriever (each holds embedder and index)."""
    guard_replicas: int = Field(2, ge=1)
    """Replicas of the safety guards; two, so that one may die unnoticed."""
    quote_replicas: int = Field(1, ge=1)
    """Replicas of the quote tier."""
    replica_cpus: float = Field(0.0, ge=0)
    """Ray CPUs reserved per thread of a replica (0 on a laptop, so that data jobs may use every core)."""
    model_replicas: int = Field(1, ge=1)
    """Replicas of each tier that is a model."""
    engine: Literal["openvino", "transformers"] = "openvino"
    """What runs a model tier: OpenVINO GenAI with continuous batching, or the plain transformers reference."""
    engine_threads: int = Field(2, ge=1)
    """CPU threads of one model replica's engine."""
    engine_precision: Literal["bf16", "f32"] = "bf16"
    """Arithmetic of the OpenVINO engine; f32 equals transformers token by token."""
    engine_cache_mb: int = Field(512, ge=16)
    """Most memory of one engine's key/value cache (MiB); requests that do not fit wait."""
    max_new_tokens: int = Field(256, ge=1)
    """Longest answer of a model tier in tokens."""
    embed_threads: int = Field(2, ge=1)
    """Threads the retriever may use to embed a query."""
    max_body_bytes: int = Field(1_000_000, ge=1000)
    """Largest request body; more is answered 413 while it is still arriving."""
    max_prompt_chars: int = Field(32_000, ge=100)
    """Longest prompt (all messages together, or one text) in characters; more is a 400 context_length_exceeded."""
    max_header_bytes: int = Field(16_384, ge=1000)
    """Largest request header block; more is answered 431."""
    body_timeout_s: float = Field(15.0, gt=0)
    """Longest time a request body may take to arrive; 408 after it."""
    allowed_hosts: tuple[str, ...] = ("127.0.0.1", "localhost", "[::1]")
    """Host names (any port) the service answers to; others get 403, so that no web site can rebind DNS to it."""
    max_messages: int = Field(200, ge=1)
    """Most messages in one chat request."""
    guard_timeout_s: float = Field(2.0, gt=0)
    """A guard that has not answered by then counts as down: the request fails closed with 503."""
    request_timeout_s: float = Field(30.0, gt=0)
    """Deadline of one request; 504 after it."""
    hold_back_chars: int = Field(80, ge=16)
    """Streamed text is held back until this many checked characters follow it (at least the longest thing a guard can
    find), so PII split over chunks never leaves."""
