"""Which replica a prompt goes to: where its beginning was read, unless that one is too busy."""

from __future__ import annotations

from dataclasses import replace

from data_jobs.retrieval.results import Retrieval
from serve_apps.gateway.protocols import Sampling
from serve_apps.routing.affinity import MOST_BLOCKS, PIECE, Affinity, blocks_of, chain_of
from tests.fakes import PASSAGE

IDLE = {"a": 0, "b": 0, "c": 0}


def passages(*names: str, version: str = "v1") -> Retrieval:
    return Retrieval("q", tuple(replace(PASSAGE, chunk=name) for name in names), index_version=version)


def test_two_conversations_stay_on_their_replicas() -> None:
    affinity = Affinity()
    leave, travel = (chain_of([topic, "general"]) for topic in ("leave", "travel"))
    assert affinity.preferred(leave, IDLE) is None, "nobody has read it yet"
    affinity.note(leave, "a")
    affinity.note(travel, "b")
    for _ in range(3):
        assert (affinity.preferred(leave, IDLE), affinity.preferred(travel, IDLE)) == ("a", "b")


def test_the_longest_common_beginning_wins() -> None:
    affinity = Affinity()
    affinity.note(chain_of(["x"]), "a")
    affinity.note(chain_of(["x", "y"]), "b")
    assert affinity.preferred(chain_of(["x", "y", "z"]), IDLE) == "b"
    assert affinity.preferred(chain_of(["y", "x"]), IDLE) is None, "the same blocks in another order are another prompt"


def test_a_busy_replica_spills_over_and_gets_its_own_back() -> None:
    affinity = Affinity(slack=2)
    chain = chain_of(["leave"])
    affinity.note(chain, "a")
    assert affinity.preferred(chain, {"a": 2, "b": 0}) == "a"
    assert affinity.preferred(chain, {"a": 3, "b": 0}) is None
    assert affinity.preferred(chain, {"a": 30, "b": 28}) == "a", "all are busy"
    affinity.note(chain, "b")  # where the spilt one went
    assert affinity.preferred(chain, {"a": 3, "b": 1}) == "b"
    assert affinity.preferred(chain, {"a": 0, "b": 1}) == "a"


def test_replicas_that_are_gone_are_not_preferred() -> None:
    affinity = Affinity()
    affinity.note(chain_of(["leave"]), "a")
    assert affinity.preferred(chain_of(["leave"]), {"b": 0}) is None
    affinity.forget("a")
    assert affinity.preferred(chain_of(["leave"]), IDLE) is None


def test_memory_is_bounded_by_what_was_met_last() -> None:
    affinity = Affinity(most=10)
    for number in range(100):
        affinity.note(chain_of([str(number)]), "a")
        affinity.note(chain_of(["kept"]), "b")
    assert affinity.preferred(chain_of(["0"]), IDLE) is None
    assert affinity.preferred(chain_of(["99"]), IDLE) == "a"
    assert affinity.preferred(chain_of(["kept"]), IDLE) == "b"


def test_blocks_are_the_passages_in_order_or_pieces_of_a_prompt() -> None:
    first = blocks_of(("question", passages("a#0", "b#0"), Sampling()))
    assert first == blocks_of(("another question", passages("a#0", "b#0"), Sampling()))
    assert first[:1] == blocks_of(("q", passages("a#0", "c#0"), Sampling()))[:1]
    assert first != blocks_of(("q", passages("a#0", "b#0", version="v2"), Sampling())), "another index, another text"
    assert blocks_of(("x" * (PIECE + 1), Sampling())) == ["x" * PIECE, "x"]
    assert len(blocks_of(("x" * PIECE * 99, Sampling()))) == MOST_BLOCKS
    assert blocks_of(()) == []
