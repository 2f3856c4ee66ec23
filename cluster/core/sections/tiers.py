"""The tiers of the service: what each one is, how it runs and what it may use. Adding a tier is an entry here."""

from __future__ import annotations

import ipaddress
from typing import Any, Literal, Self, get_args
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from cluster.core.sections.answer import AnswerSection
from cluster.core.sections.base import Section

AUTO = "auto"  # the model name with which a client leaves the choice to the router
EMBEDDING_MODELS = {"minilm": "all-minilm-l6-v2"}  # index.embedder -> the name clients ask for embeddings by
OTHER_EMBEDDER = "embedder"  # the name of every other one

TierKind = Literal["quote", "model"]
EngineName = Literal["openvino", "transformers", "vllm", "openai"]
ENGINES: tuple[str, ...] = get_args(EngineName)
VLLM = "vllm"  # the one that runs on GPUs
OPENAI = "openai"  # the one that runs no model here: another server answers
Option = Literal["temperature", "top_p", "seed", "stop"]
OPTIONS: tuple[Option, ...] = get_args(Option)


class TierOptions(Section):
    """How a tier runs: shared by entries of ``serve.tiers`` and by ``serve.model_defaults``."""

    engine: EngineName = "openvino"
    """What runs a model: OpenVINO GenAI with continuous batching, the plain transformers reference, or vLLM on GPUs
    (installed apart, see README). `openai`, of an
    entry of `serve.tiers` only: another server does, at `url`."""
    precision: Literal["bf16", "f32"] = "bf16"
    """Arithmetic of OpenVINO and vLLM; f32 equals transformers token by token."""
    threads: int = Field(2, ge=1)
    """CPU threads of one replica."""
    cache_mb: int = Field(512, ge=16)
    """Most memory of one engine's key/value cache (MiB); requests that do not fit wait."""
    min_replicas: int = Field(1, ge=0)
    """Replicas that are always there. 0 for a model that may sleep: when it is needed again it is started in the
    background, and another tier answers meanwhile."""
    max_replicas: int = Field(1, ge=1)
    """Most replicas under load; the same as min_replicas: no more and no fewer (`serve.scaling`)."""
    standby: int = Field(0, ge=0)
    """Replicas beyond those, loaded and ready: with one, another answers at once when a replica dies. They take their
    part of the work, as Serve holds none back."""
    target_ongoing: int = Field(8, ge=1)
    """Answers under way in one replica that scaling aims at."""
    target_tokens: int = Field(8192, ge=1)
    """Tokens under way in one replica of a model that scaling aims at: of prompts to be read and answers that may
    still be written. The larger need of the two counts."""
    resources: dict[str, float] = Field(default_factory=dict)
    """What a replica reserves of Ray: CPU, GPU or a resource of your own, by name; CPU left out is serve.replica_cpus
    for each thread."""
    context_tokens: int = Field(0, ge=0)
    """Longest prompt and completion together, in tokens; 0 is all that the model and the engine's cache hold."""
    max_new_tokens: int = Field(256, ge=1)
    """Longest answer of a model in tokens."""
    answer_s: float = Field(20.0, gt=0)
    """Longest time that a model writes from evidence (s): what is not written and checked by then is not said."""
    max_batch: int = Field(64, ge=1)
    """Answers an engine works on at once; more wait in its queue."""
    batch_tokens: int = Field(1024, ge=32)
    """Prompt and new tokens together in one step of the engines OpenVINO and vLLM."""
    tensor_parallel: int = Field(1, ge=1)
    """GPUs that hold one model together (engine=vllm), all on one node. A replica reserves as many."""
    gpu_memory: float = Field(0.9, gt=0, le=1)
    """Share of each GPU's memory that vLLM takes for weights and cache."""
    max_ongoing: int = Field(200, ge=1)
    """Requests that Serve sends to one replica before it holds back further ones."""
    price: float = Field(0.0, ge=0)
    """Price of a thousand tokens, in a unit that all tiers share. Among tiers about as good `auto` takes the one with
    the lowest price, and the one with the shortest wait among equals."""

    @model_validator(mode="after")
    def _check_replicas(self) -> Self:
        if self.max_replicas < self.min_replicas:
            raise ValueError(f"max_replicas={self.max_replicas} is below min_replicas={self.min_replicas}")
        if self.standby and not self.min_replicas:
            raise ValueError("standby is for a tier that does not sleep: min_replicas is 1 at least")
        if self.tensor_parallel > 1 and (self.engine != VLLM or "GPU" in self.resources):
            raise ValueError("tensor_parallel is for engine=vllm, and says itself how many GPUs a replica reserves")
        return self


class TierConfig(TierOptions):
    """One tier: a name that clients may send as ``model``, and what answers there."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")
    """What clients send as `model`."""
    kind: TierKind = "model"
    """`model`: a language model of the registry; `quote`: the documents' own words, without a model."""
    model: str = ""
    """Which registered model, or NAME@ALIAS (champion, candidate, previous) or NAME@VERSION of it; empty: the model of
    the tier's own name, its champion if it has one, else its candidate. With `engine: openai` what the other server
    calls its model."""
    adapter: str = ""
    """The adapter (LoRA, `adapters/NAME` in the model's folder) with which the model answers here; engine=vllm."""
    optional: bool = False
    """Deployed only once its model is registered (`plinth models add PATH --tier NAME`, training); else the tier is
    there from the start and waits for it."""
    fallback: bool = False
    """The extractive tier that gates measure models against: `auto` takes it where the passages carry no answer, and
    where another tier is down or does not know. One tier at most."""
    answer: dict[str, Any] = Field(default_factory=dict)
    """Settings of the section `answer` that are others in this tier."""
    url: str = ""
    """Of `engine: openai`, as are the settings below: where the other server answers, up to and without
    `/chat/completions`. https, or http on this machine."""
    plain_http: bool = False
    """Whether `url` may be http on another machine. Questions, passages and the key then cross the network for all to
    read."""
    key_file: str = ""
    """File with the key of the other server: one line, readable by its owner only (mode 0600). Empty: none is sent."""
    connect_s: float = Field(5.0, gt=0)
    """Longest time until a connection to the other server stands (s)."""
    silence_s: float = Field(15.0, gt=0)
    """Longest silence of the other server, before its first word and between two of them (s)."""
    takes: tuple[Option, ...] = OPTIONS
    """Options of sampling that the other model takes. Others are not sent, and an answer names them as ignored."""
    limit_name: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    """What the other server calls the longest completion."""
    instead: str = ""
    """The tier that answers where this one is switched off or does not answer; empty: the one with `fallback`."""

    @field_validator("url")
    @classmethod
    def _check_url(cls, url: str) -> str:
        if url and (wrong := _wrong_with(url)):
            raise ValueError(f"url {wrong}: write it as https://HOST/v1")
        return url.rstrip("/")

    @model_validator(mode="after")
    def _check_kind(self) -> Self:
        if self.fallback and self.kind != "quote":
            raise ValueError(f"tier {self.name}: only a tier of kind quote can be the fallback")
        if self.min_replicas == 0 and self.kind != "model":
            raise ValueError(f"tier {self.name}: a tier of kind {self.kind} starts at once and answers for others that "
                             "sleep: min_replicas is 1 at least")  # fmt: skip
        if self.model and self.kind != "model":
            raise ValueError(f"tier {self.name}: a tier of kind {self.kind} has no model")
        if self.optional and (self.kind != "model" or self.external):
            raise ValueError(f"tier {self.name}: optional is for a tier that waits for a registered model")
        if self.adapter and self.engine != VLLM:
            raise ValueError(f"tier {self.name}: an adapter needs engine=vllm")
        AnswerSection.model_validate(self.answer)
        return self

    @model_validator(mode="after")
    def _check_external(self) -> Self:
        if not self.external:
            if self.url or self.key_file or self.instead:
                raise ValueError(f"tier {self.name}: url, key_file and instead are for engine=openai")
            return self
        if not (self.url and self.model):
            raise ValueError(f"tier {self.name}: engine=openai wants url and model, the other server's name for it")
        if urlsplit(self.url).scheme == "http" and not (self.plain_http or on_loopback(self.url)):
            raise ValueError(f"tier {self.name}: url is http on another machine: take https, or set plain_http=true")
        if self.min_replicas == 0:
            raise ValueError(f"tier {self.name}: it holds no model that could sleep: min_replicas is 1 at least")
        return self

    @property
    def external(self) -> bool:
        """Whether another server answers, so that question and passages leave the house."""
        return self.kind == "model" and self.engine == OPENAI

    @property
    def host(self) -> str:
        """Of an external tier: who answers, HOST or HOST:PORT."""
        return urlsplit(self.url).netloc

    @property
    def registered_name(self) -> str:
        """The registered model that this tier serves."""
        return self.model.partition("@")[0] or self.name

    @property
    def pinned(self) -> str:
        """The alias or version of the model that it serves; empty: the champion, else the candidate."""
        return self.model.partition("@")[2]

    def answers(self, section: AnswerSection) -> AnswerSection:
        """The answer settings of this tier: those of ``section``, but for its own."""
        return AnswerSection.model_validate({**section.model_dump(), **self.answer})


QUOTE = TierConfig(name="quote", kind="quote", fallback=True, threads=1)
# For models of others, of about 1 to 3 and of 7 to 14 billion parameters. The prices say what a token costs beside
# another one's, about as the sizes do; nobody pays them.
MEDIUM = TierConfig(
    name="medium", optional=True, threads=4, cache_mb=2048, max_new_tokens=512, answer_s=25.0, price=2.0
)  # fmt: skip
LARGE = TierConfig(
    name="large", optional=True, threads=8, cache_mb=8192, max_new_tokens=512, answer_s=28.0, price=10.0
)  # fmt: skip


def embedding_name(embedder: str) -> str:
    """The name by which clients ask for embeddings of the index's embedder (``index.embedder``)."""
    return EMBEDDING_MODELS.get(embedder, OTHER_EMBEDDER)


def names_taken(tiers: tuple[TierConfig, ...]) -> tuple[str, ...]:
    """Names that no registered model may have, because clients know them as something else.

    These are `auto`, the embedding models, and the tiers that do not serve the model of their own name.
    """
    others = (t.name for t in tiers if t.kind != "model" or t.external or t.registered_name != t.name)
    return (AUTO, *others, OTHER_EMBEDDER, *EMBEDDING_MODELS.values())


def on_loopback(url: str) -> bool:
    """Whether an address is one of this machine."""
    host = urlsplit(url).hostname or ""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _wrong_with(url: str) -> str:
    """What makes an address unusable; empty where nothing does. It is never quoted: somebody may put a key into it."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return "is no address"
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        return "is no http or https address"
    if not url.isascii() or any(ord(c) <= 32 or ord(c) == 127 or c in '\\"<>^`{|}' for c in url):
        return "has characters that belong into no address"
    if "@" in parts.netloc or parts.query or parts.fragment:
        return "holds a user, a password or a query"
    return ""
