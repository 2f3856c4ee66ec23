"""Forgetting in a running retriever: at once, without a restart, whichever index is live; damage changes nothing."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from pathlib import Path

from cluster.core.config import PlinthConfig
from cluster.core.records import Copy, Document, Manifest
from cluster.core.sections.answer import AnswerSection
from cluster.core.sections.cache import CacheSection
from cluster.core.sections.data import IndexSection, RetrievalSection
from cluster.core.sections.serve import ServeSection
from cluster.core.sections.tiers import QUOTE
from cluster.core.storage import Store
from data_jobs.governance.tombstones import Where, add_tombstone
from data_jobs.indexing.update_index import update
from serve_apps.replicas.quote import QuoteReplica
from serve_apps.replicas.retriever import RetrieverReplica
from tests.data_jobs.hash_embedder import HashEmbedder
from tests.fakes import LocalTier
from tests.serve_apps.service import Service

SECTION = IndexSection()
NOTES = [
    Document("cat.md", "Cats", "A cat sleeps on the warm roof all day.", "cat.md"),
    Document("dog.md", "Dogs", "A dog barks at the cat on the roof.", "dog.md"),
    Document("fish.md", "Fish", "A fish swims in the cold pond.", "fish.md"),
]


class Records:
    """A recorder that keeps what it is given."""

    def __init__(self) -> None:
        self.values: dict[tuple[str, str], float] = {}

    def record(self, metric: str, value: float, labels: dict[str, str]) -> None:
        key = (metric, ",".join(labels.values()))
        self.values[key] = self.values.get(key, 0) + value if metric.endswith("_total") else value


def published(
    store: Store, embedder: HashEmbedder, documents: list[Document], before: Manifest | None = None
) -> Manifest:
    index = update(store, SECTION, before, documents, (), embedder, inputs={})
    store.move_alias("indexes", "main", "live", index.version, "test")
    return index


def config() -> PlinthConfig:
    return PlinthConfig(retrieval=RetrievalSection(refresh_s=0.05))


async def found(replica: RetrieverReplica, question: str = "cat on the roof") -> set[str]:
    return {p.document for p in (await replica.search(question)).passages}


async def until(replica: RetrieverReplica, wanted: set[str], seconds: float) -> float:
    began = time.monotonic()
    while (now := await found(replica)) != wanted:
        assert time.monotonic() - began < seconds, f"still {now}"
        await asyncio.sleep(0.01)
    return time.monotonic() - began


def test_a_forgotten_document_is_gone_within_two_seconds(store: Store, embedder: HashEmbedder) -> None:
    published(store, embedder, NOTES)

    async def scenario() -> None:
        replica = RetrieverReplica(config())
        replica.follow()
        assert await found(replica) == {"cat.md", "dog.md", "fish.md"}
        add_tombstone(store, document="cat.md")
        await until(replica, {"dog.md", "fish.md"}, 2)
        add_tombstone(store, where=Where.parse("source=dog.md"))
        await until(replica, {"fish.md"}, 2)

    asyncio.run(scenario())


def test_a_forgotten_copy_is_named_no_more(store: Store, embedder: HashEmbedder) -> None:
    copies = tuple(Copy(f"copy{n}.md", "Cats", f"old/copy{n}.md") for n in range(3))
    published(store, embedder, [replace(NOTES[0], copies=copies), *NOTES[1:]])

    async def named(replica: RetrieverReplica) -> tuple[Copy, ...]:
        passages = (await replica.search("cat on the roof")).passages
        return next(p.also for p in passages if p.document == "cat.md")

    async def scenario() -> None:
        replica = RetrieverReplica(config())
        assert await named(replica) == copies
        add_tombstone(store, document="copy1.md")
        replica._forgotten.refresh()
        assert await named(replica) == (copies[0], copies[2])
        add_tombstone(store, where=Where.parse("source=old"))
        replica._forgotten.refresh()
        assert await named(replica) == ()
        assert await found(replica) == {"cat.md", "dog.md", "fish.md"}

    asyncio.run(scenario())


def test_it_says_how_many_decisions_each_answer_heeds(store: Store, embedder: HashEmbedder) -> None:
    published(store, embedder, NOTES)

    async def heeded(replica: RetrieverReplica) -> tuple[int, int]:
        return (await replica.search("cat")).forgotten, (await replica.collections())[0]["forgotten"]

    async def scenario() -> None:
        replica = RetrieverReplica(config())
        assert await heeded(replica) == (0, 0)
        add_tombstone(store, document="cat.md")
        assert await heeded(replica) == (0, 0), "it has not heard of it, and says so"
        replica._forgotten.refresh()
        assert await heeded(replica) == (1, 1)
        published(store, embedder, NOTES[:2])
        await replica._held.refresh()
        add_tombstone(store, document="dog.md")
        assert await heeded(replica) == (1, 1), "an index that went live since heeds what was known"
        replica._forgotten._read()
        assert await heeded(replica) == (1, 1), "known, but not applied yet"

    asyncio.run(scenario())


def test_its_examples_are_gone_too(store: Store, embedder: HashEmbedder) -> None:
    index = published(store, embedder, NOTES)

    async def scenario() -> None:
        replica = RetrieverReplica(config())
        version, examples = await replica.examples(9)
        assert version == index.version
        assert {e.question for e in examples} == {f"What is said about {x}?" for x in ("Cats", "Dogs", "Fish")}
        assert await replica.examples(9) == (version, examples)
        add_tombstone(store, document="cat.md")
        replica._forgotten.refresh()
        assert {e.document for e in (await replica.examples(9))[1]} == {"dog.md", "fish.md"}

    asyncio.run(scenario())


def test_a_kept_answer_that_cites_it_is_given_no_more(store: Store, embedder: HashEmbedder) -> None:
    """Through gateway and tier: the answer is asked for again and again while its document is forgotten."""
    first = published(store, embedder, NOTES[:2])
    replica = RetrieverReplica(config())
    quote = LocalTier(QuoteReplica(PlinthConfig(answer=AnswerSection(min_confidence=0.0)), QUOTE))
    section = ServeSection(cache=CacheSection(on=True))
    client = Service(retriever=replica, tier=quote, section=section).client()

    def asked() -> tuple[str, set[str]]:
        body = {"model": "auto", "messages": [{"role": "user", "content": "Where does the cat sleep on the roof?"}]}
        plinth = client.post("/v1/chat/completions", json=body).json()["plinth"]
        return plinth["cache"], {cited["document"] for cited in plinth["citations"]}

    (_, cited), (again, given) = asked(), asked()
    assert again == "hit"
    assert "cat.md" in cited == given
    add_tombstone(store, document="cat.md")
    replica._forgotten.refresh()
    deadline = time.monotonic() + 5
    while "cat.md" in asked()[1]:
        assert time.monotonic() < deadline
    assert asked() == ("hit", {"dog.md"})
    published(store, embedder, [replace(NOTES[1], text="A dog sleeps where the cat sleeps: on the roof.")], first)
    asyncio.run(replica._held.refresh())
    while asked()[0] == "hit":
        assert time.monotonic() < deadline


def test_a_new_index_that_still_holds_it_is_masked_before_it_serves(store: Store, embedder: HashEmbedder) -> None:
    first = published(store, embedder, NOTES[:2])
    add_tombstone(store, document="cat.md")

    async def scenario() -> None:
        replica = RetrieverReplica(config())
        assert await found(replica) == {"dog.md"}
        replica.follow()
        published(store, embedder, NOTES[2:], first)
        deadline = time.monotonic() + 5
        seen: set[str] = set()
        while "fish.md" not in seen:
            assert time.monotonic() < deadline
            seen = await found(replica)
            assert "cat.md" not in seen
            await asyncio.sleep(0.005)

    asyncio.run(scenario())


def test_a_damaged_list_of_tombstones_reveals_nothing(store: Store, embedder: HashEmbedder) -> None:
    published(store, embedder, NOTES)
    add_tombstone(store, document="cat.md")
    replica = RetrieverReplica(config())
    path = Path(store.path("forgotten", "tombstones", "00000001.json"))
    path.unlink()
    replica._forgotten.refresh()
    assert asyncio.run(found(replica)) == {"dog.md", "fish.md"}


def test_a_damaged_new_version_is_refused_and_at_a_restart_the_last_good_one_serves(
    store: Store, embedder: HashEmbedder
) -> None:
    first = published(store, embedder, NOTES[:2])
    replica = RetrieverReplica(config())
    second = published(store, embedder, NOTES[2:], first)
    newest = max((p for p in Path(store.artefact(second)).iterdir() if p.is_dir()), key=lambda p: p.stat().st_mtime)
    assert not (Path(store.artefact(first)) / newest.name).exists()
    damaged = newest / "vectors.npy"
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"\x01")
    asyncio.run(replica._held.refresh())
    assert asyncio.run(found(replica)) == {"cat.md", "dog.md"}
    again = RetrieverReplica(config())
    assert asyncio.run(again.info())["index_version"] == first.version


def test_it_reports_age_size_and_hits(store: Store, embedder: HashEmbedder) -> None:
    index = published(store, embedder, NOTES)
    records = Records()
    replica = RetrieverReplica(config(), records)
    asyncio.run(found(replica))
    asyncio.run(found(replica, "   "))
    assert records.values["plinth_retrievals_total", "hit"] == 1
    assert records.values["plinth_retrievals_total", "empty"] == 1
    assert records.values["plinth_index_documents", ""] == 3
    assert records.values["plinth_index_build_seconds", ""] == index.counts["seconds"]
    assert 0 <= records.values["plinth_index_age_seconds", ""] < 60
    assert records.values["plinth_retrieval_ms", ""] >= 0
