"""Several collections in one retriever: loaded when asked for, in bounded memory, each with its own threshold."""

from __future__ import annotations

import asyncio
import time
import weakref
from pathlib import Path
from typing import Any

import pytest

from cluster.core.config import PlinthConfig
from cluster.core.records import Document, Manifest
from cluster.core.sections.data import IndexSection, RetrievalSection
from cluster.core.storage import Collections, Store
from data_jobs.governance.tombstones import add_tombstone
from data_jobs.indexing.update_index import update
from data_jobs.lineage.garbage import remove_index
from serve_apps.errors import ApiError, UnavailableError
from serve_apps.replicas.collections import memory_of
from serve_apps.replicas.retriever import RetrieverReplica
from tests.data_jobs.hash_embedder import HashEmbedder

SECTION = IndexSection()
QUESTION = "Where does the animal sleep?"


@pytest.fixture
def publish(store: Store, embedder: HashEmbedder) -> Any:
    def work(name: str, *documents: str) -> Manifest:
        made = [Document(one, one, f"The animal of {one} sleeps in the {name} all day.", one) for one in documents]
        before = Collections(store, "main").version(name)
        earlier = store.manifest("indexes", name, before) if before else None
        index = update(store, SECTION, earlier, made, (), embedder, inputs={}, name=name)
        Collections(store, "main").go_live(name, index.version, why="test")
        return index

    return work


def replica_of(most_bytes: int = 1 << 30) -> RetrieverReplica:
    replica = RetrieverReplica(PlinthConfig(retrieval=RetrievalSection(refresh_s=0.02)))
    replica._held._most = most_bytes
    return replica


def loaded(replica: RetrieverReplica) -> set[str]:
    return {one.manifest.name for one in replica._held.loaded}


async def documents(replica: RetrieverReplica, collection: str = "") -> set[str]:
    found = await replica.search(QUESTION, None, collection)
    assert collection in ("", found.collection)
    return {passage.document for passage in found.passages}


async def until(condition: Any, seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not (found := condition() if not asyncio.iscoroutinefunction(condition) else await condition()):
        assert time.monotonic() < deadline, f"still {found}"
        await asyncio.sleep(0.01)


def test_each_answers_from_its_own_documents_and_is_loaded_when_first_asked(publish: Any) -> None:
    publish("main", "cat.md")
    publish("boats", "tug.md", "yawl.md")

    async def scenario() -> None:
        replica = replica_of()
        assert loaded(replica) == {"main"}
        assert await documents(replica) == {"cat.md"}
        assert loaded(replica) == {"main"}
        assert await documents(replica, "boats") == {"tug.md", "yawl.md"}
        assert loaded(replica) == {"main", "boats"}
        assert await documents(replica, "main") == {"cat.md"}
        version, examples = await replica.examples(9, "boats")
        assert {example.document for example in examples} == {"tug.md", "yawl.md"}
        assert (await replica.examples(9))[0] != version

    asyncio.run(scenario())


def test_many_who_ask_at_once_wait_for_one_loading(publish: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    publish("main", "cat.md")
    publish("boats", "tug.md")
    replica, loads, load = replica_of(), [], RetrieverReplica._load

    def counted(self: RetrieverReplica, folder: Path, manifest: Manifest, *rest: Any) -> Any:
        loads.append(manifest.name)
        return load(self, folder, manifest, *rest)

    monkeypatch.setattr(RetrieverReplica, "_load", counted)

    async def scenario() -> None:
        first = asyncio.create_task(documents(replica, "boats"))
        others = [asyncio.create_task(documents(replica, "boats")) for _ in range(5)]
        await asyncio.sleep(0)
        first.cancel()  # who began the loading and left does not take it along
        assert await asyncio.gather(*others) == [{"tug.md"}] * 5

    asyncio.run(scenario())
    assert loads == ["boats"]


def test_memory_is_bounded_the_longest_unused_goes_and_the_default_stays(publish: Any) -> None:
    sizes = [memory_of(publish(name, f"{name}.md")) for name in ("main", "a", "b", "c")]
    replica = replica_of(most_bytes=sum(sizes[:3]) + 100)

    async def scenario() -> None:
        await documents(replica, "a")
        await documents(replica, "b")
        of_b = weakref.ref(replica._held._held["b"].live.current.thing)
        await documents(replica, "a")
        assert loaded(replica) == {"main", "a", "b"}
        await documents(replica, "c")
        assert loaded(replica) == {"main", "a", "c"}
        assert of_b() is None, "what was thrown out takes no memory"
        assert await documents(replica, "b") == {"b.md"}
        assert loaded(replica) == {"main", "c", "b"}
        replica._held._most = 1  # not even the default fits: it and the one asked for are there
        assert await documents(replica, "a") == {"a.md"}
        assert loaded(replica) == {"main", "a"}

    asyncio.run(scenario())


def test_one_that_is_being_searched_is_not_thrown_out(publish: Any) -> None:
    for name in ("main", "a", "b"):
        publish(name, f"{name}.md")
    replica = replica_of(most_bytes=1)

    async def scenario() -> None:
        async with replica._held.use("a"):
            waiting = asyncio.create_task(documents(replica, "b"))
            for _ in range(20):
                await asyncio.sleep(0.005)
                assert loaded(replica) == {"main", "a"}
                assert not waiting.done()
        assert await waiting == {"b.md"}
        assert loaded(replica) == {"main", "b"}

    asyncio.run(scenario())


def test_another_default_is_taken_up_without_a_gap_and_back(store: Store, publish: Any) -> None:
    publish("main", "cat.md")
    publish("boats", "tug.md")

    async def scenario() -> None:
        replica = replica_of()
        replica.follow()
        for name, expected in (("boats", "tug.md"), ("main", "cat.md")):
            Collections(store, "main").use(name, why="test")
            seen: set[str] = set()
            deadline = time.monotonic() + 10
            while seen != {expected}:
                assert time.monotonic() < deadline
                seen = await documents(replica)
                assert seen in ({"cat.md"}, {"tug.md"})
                await asyncio.sleep(0.005)
            assert (await replica.info())["collection"] == name

    asyncio.run(scenario())


def test_new_versions_new_and_removed_collections_are_noticed(store: Store, publish: Any) -> None:
    publish("main", "cat.md")
    publish("boats", "tug.md")

    async def scenario() -> None:
        replica = replica_of()
        replica.follow()
        assert await documents(replica, "boats") == {"tug.md"}
        publish("boats", "yawl.md")

        async def updated() -> bool:
            return await documents(replica, "boats") == {"tug.md", "yawl.md"}

        await until(updated)
        publish("notes", "n.md")
        assert await documents(replica, "notes") == {"n.md"}
        remove_index(store, "boats")
        await until(lambda: loaded(replica) == {"main", "notes"})
        with pytest.raises(ApiError, match="there are main, notes"):
            await documents(replica, "boats")
        remove_index(store, "notes")
        remove_index(store, "main")
        await until(lambda: not loaded(replica))
        with pytest.raises(UnavailableError, match="no index is live yet"):
            await documents(replica)
        publish("later", "l.md")
        await until(lambda: loaded(replica) == {"later"})
        assert await documents(replica) == {"l.md"}

    asyncio.run(scenario())


def test_a_store_that_is_away_takes_nothing_away(store: Store, publish: Any) -> None:
    publish("main", "cat.md")
    publish("boats", "tug.md")
    replica = replica_of()

    async def scenario() -> None:
        await documents(replica, "boats")
        folder = Path(store.path("indexes"))
        folder.rename(folder.with_name("elsewhere"))
        await replica._held.refresh()
        assert await documents(replica) == {"cat.md"}
        assert await documents(replica, "boats") == {"tug.md"}

    asyncio.run(scenario())


def test_an_unknown_one_is_refused_and_those_there_are_listed(publish: Any) -> None:
    publish("main", "cat.md")
    publish("boats", "tug.md")
    replica = replica_of()

    async def scenario() -> None:
        for name in ("nope", "../main", "No Such", "a/b", "x" * 300):
            with pytest.raises(ApiError, match="there are boats, main") as refused:
                await documents(replica, name)
            assert (refused.value.status, refused.value.extras["code"]) == (404, "collection_not_found")

    asyncio.run(scenario())


def test_a_damaged_one_is_unavailable_and_the_others_answer(store: Store, publish: Any) -> None:
    publish("main", "cat.md")
    boats = publish("boats", "tug.md")
    damaged = next(Path(store.artefact(boats)).rglob("vectors.npy"))
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"\x01")
    replica = replica_of()

    async def scenario() -> None:
        for _ in range(2):
            with pytest.raises(UnavailableError, match="boats cannot be loaded"):
                await documents(replica, "boats")
        Collections(store, "main").use("boats", why="test")
        await replica._held.refresh()
        assert await documents(replica) == {"cat.md"}  # what answered by default goes on

    asyncio.run(scenario())


def test_forgetting_reaches_every_collection_loaded_or_not(store: Store, publish: Any) -> None:
    for name in ("main", "a", "b"):
        publish(name, "cat.md", f"{name}.md")
    replica = replica_of()

    async def scenario() -> None:
        assert await documents(replica, "a") == {"cat.md", "a.md"}
        add_tombstone(store, document="cat.md")
        replica._forgotten.refresh()
        for name in ("main", "a", "b"):  # b is loaded only now
            assert await documents(replica, name) == {f"{name}.md"}

    asyncio.run(scenario())


def test_each_has_its_card_and_its_own_threshold(store: Store, publish: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from data_jobs.retrieval import risk

    boats = publish("boats", "tug.md", "yawl.md")
    main = publish("main", "cat.md")
    Collections(store, "main").use("main", why="test")
    evidence = risk.Evidence("off", 1, tuple(risk.Judged("title", True, 0.9, True) for _ in range(200)))
    monkeypatch.setattr(risk, "read_evidence", lambda folder: evidence if boats.version in str(folder) else None)
    monkeypatch.setattr("data_jobs.retrieval.passage_reader.PassageReader.fingerprint", "off")

    async def scenario() -> None:
        replica = replica_of()
        before = {card["collection"]: card for card in await replica.collections()}
        assert [before[name]["loaded"] for name in ("boats", "main")] == [False, True]
        assert [before[name]["default"] for name in ("boats", "main")] == [False, True]
        assert before["boats"]["index_version"] == boats.version
        assert before["boats"]["documents"] == 2
        assert (await replica.search(QUESTION)).threshold is None
        found = await replica.search(QUESTION, None, "boats")
        assert found.threshold is not None
        assert found.index_version == boats.version
        after = {card["collection"]: card for card in await replica.collections()}
        assert (after["boats"]["threshold"], after["boats"]["loaded"]) == (found.threshold, True)
        assert (await replica.info())["index_version"] == main.version

    asyncio.run(scenario())
