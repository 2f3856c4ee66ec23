"""Under too many requests the gateway keeps its pace: simulated time, real decisions."""

from __future__ import annotations

import asyncio
import heapq
import random
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

from cluster.core.access import NO_RIGHTS, Rights
from cluster.core.identity import LOCAL
from cluster.core.sections.serve import ServeSection
from cluster.haproxy_edge import BEYOND, FEW, ROOM, SHARE
from serve_apps.errors import UnavailableError, to_api_error
from serve_apps.gateway.admission import ALWAYS, UNKNOWN, Admission
from tests.fakes import FixedRetriever
from tests.serve_apps.service import CHAT, Service, eventually, on_socket

LONGEST = 2.0


@dataclass
class House:
    """Servers that take one request each for ``service_s``, in order, behind an Admission."""

    servers: int
    service_s: float
    now: float = 0.0
    refused: int = 0
    stays: list[float] = field(default_factory=list)
    _free: list[float] = field(default_factory=list)
    _leaving: list[tuple[float, int, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.admission = Admission(LONGEST, lambda: self.now)
        self._free = [0.0] * self.servers

    def arrive(self, at: float) -> None:
        self.until(at)
        try:
            place = self.admission.come()
        except UnavailableError:
            self.refused += 1
            return
        done = max(at, heapq.heappop(self._free)) + self.service_s
        heapq.heappush(self._free, done)
        heapq.heappush(self._leaving, (done, len(self.stays), place))
        self.stays.append(done - at)

    def until(self, at: float) -> None:
        while self._leaving and self._leaving[0][0] <= at:
            self.now, _, place = heapq.heappop(self._leaving)
            place.leave()
        self.now = at


def crowd(house: House, per_second: float, seconds: float, seed: int = 0) -> None:
    rng, at = random.Random(seed), house.now
    end = at + seconds
    while (at := at + rng.expovariate(per_second)) < end:
        house.arrive(at)


@pytest.mark.parametrize(("servers", "service_s"), [(1, 0.02), (2, 0.05), (16, 1.0)])
def test_at_five_times_the_load_the_pace_stays_and_nobody_waits_long(servers: int, service_s: float) -> None:
    house = House(servers, service_s)
    capacity = servers / service_s
    crowd(house, 0.5 * capacity, 20)
    assert house.refused == 0
    before = len(house.stays)
    crowd(house, 5 * capacity, 60)
    served = len(house.stays) - before
    assert served >= 0.9 * capacity * 60
    assert house.refused > 3 * served
    late = sorted(house.stays[before:])
    assert late[int(0.95 * len(late))] <= 1.5 * LONGEST + service_s
    house.until(house.now + 10)
    refused = house.refused
    crowd(house, 0.5 * capacity, 20, seed=1)
    assert house.refused == refused, "after the crowd everybody is let in again"


def test_long_answers_side_by_side_are_no_queue() -> None:
    """16 at once that take ten seconds each, on 16 servers: nobody waits, nobody is refused."""
    house = House(16, 10.0)
    for round_ in range(10):
        for user in range(16):
            house.arrive(round_ * 10.5 + user * 0.01)
    assert house.refused == 0


def test_two_at_a_time_say_nothing_of_how_many_could_be() -> None:
    house = House(60, 10.0)
    for round_ in range(40):
        house.arrive(round_ * 5.0)
    for _ in range(50):
        house.arrive(house.now + 0.01)
    assert house.refused == 0


def test_where_replicas_came_more_are_let_in_again() -> None:
    """One at a time before, sixty now: who is let in meets nobody, and the door opens step by step."""
    house = House(1, 1.0)
    crowd(house, 5, 30)
    assert house.admission.room <= 0
    house.until(house.now + 20)
    assert house.admission.room == ALWAYS
    house._free = [0.0] * 60
    refused = []
    for _ in range(12):
        before = house.refused
        for _ in range(50):
            house.arrive(house.now + 0.001)
        refused.append(house.refused - before)
        house.until(house.now + 3)
    assert refused[0] > 30
    assert refused[-4:] == [0] * 4, refused


def test_where_nobody_leaves_any_more_the_door_is_shut() -> None:
    house = House(1, 0.02)
    crowd(house, 20, 10)
    house._free = [1e9]  # it hangs
    for step in range(400):
        house.arrive(house.now + 0.05 + step * 0)
    assert house.refused > 300
    few = House(1, 1e9)
    for _ in range(ALWAYS):
        few.arrive(few.now + 5)
    assert few.refused == 0, "a few are always let in"


def test_a_refusal_says_when_to_come_back() -> None:
    house = House(1, 1.0)
    for _ in range(60):
        house.arrive(house.now + 0.01)
    house.until(house.now + 3)
    with pytest.raises(UnavailableError) as refused:
        house.admission.come()
    error = to_api_error(refused.value)
    assert error.status == 503
    assert int(error.headers["retry-after"]) >= 1


def test_who_gave_up_counts_for_nothing() -> None:
    now = [0.0]
    admission = Admission(LONGEST, lambda: now[0])
    place = admission.come()
    now[0] = 9.0
    place.leave(served=False)
    assert (admission.expected_wait_s, admission.room) == (0, UNKNOWN)
    place = admission.come()
    place.leave()
    place.leave()
    assert admission.inside == 0


def test_a_crowd_is_told_at_once_over_http(monkeypatch: pytest.MonkeyPatch) -> None:
    """The search hangs: a few are let in and wait, the others are told at once; once it goes on, all is well."""

    class Hanging(FixedRetriever):
        def __init__(self) -> None:
            super().__init__()
            self.event, self.searching = asyncio.Event(), 0

        async def search(self, question: str, k: int | None, collection: str = "", rights: Rights = NO_RIGHTS) -> Any:
            self.loop = asyncio.get_running_loop()
            self.searching += 1
            await self.event.wait()
            return await super().search(question, k, collection)

    made: list[Admission] = []
    make = Admission.__init__

    def built(self: Admission, *args: Any, **named: Any) -> None:
        made.append(self)
        make(self, *args, **named)

    monkeypatch.setattr(Admission, "__init__", built)
    retriever = Hanging()
    service = Service(retriever=retriever, section=ServeSection(longest_wait_s=0.05))
    with on_socket(service.app()) as url, ThreadPoolExecutor(ALWAYS) as pool:

        def ask() -> httpx.Response:
            return httpx.post(f"{url}/v1/chat/completions", json=CHAT, timeout=30, trust_env=False)

        inside = [pool.submit(ask) for _ in range(ALWAYS)]
        # That nobody leaves is seen once it lasts longer than the longest wait: a quick machine asks before that.
        eventually(lambda: retriever.searching == ALWAYS and made[0].room <= 0, 20)
        request = {"json": {"query": "How?"}, "timeout": 10, "trust_env": False}
        refused = httpx.post(f"{url}/v1/search", **request)
        assert refused.status_code == 503
        assert int(refused.headers["retry-after"]) >= 1
        assert refused.json()["error"]["code"] == "server_is_overloaded"
        retriever.loop.call_soon_threadsafe(retriever.event.set)
        assert {future.result().status_code for future in inside} == {200}
        assert ask().status_code == 200


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_that_was_read_to_its_end_was_served(stream: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    left: list[tuple[Admission, bool]] = []
    made: list[Admission] = []
    make, leave = Admission.__init__, Admission._left

    def built(self: Admission, *args: Any, **named: Any) -> None:
        made.append(self)
        make(self, *args, **named)

    def seen(self: Admission, came: float, key: str, served: bool) -> None:
        left.append((self, served))
        leave(self, came, key, served)

    monkeypatch.setattr(Admission, "__init__", built)
    monkeypatch.setattr(Admission, "_left", seen)
    with Service().client() as client:
        assert client.post("/v1/chat/completions", json={**CHAT, "stream": stream}).status_code == 200
    # What another test left in its house leaves when it is collected, and that may be now.
    assert [served for admission, served in left if admission in made] == [True]


def test_a_pause_is_not_taken_for_the_pace() -> None:
    house = House(1, 0.05)
    crowd(house, 15, 10)
    refused = house.refused
    for _ in range(2 * ALWAYS):  # so many come at once, and then a pause of the machine
        house.arrive(house.now)
    late = [1.0 + done for done in house._free]
    house._free, house.now = late, house.now + 1.0
    house.arrive(house.now)
    assert house.refused == refused == 0


def test_as_many_come_in_as_it_says_there_is_room_for() -> None:
    house = House(1, 0.05)
    for _ in range(UNKNOWN + 5):  # the first crowd of all: nobody knows how quickly they leave
        house.arrive(house.now)
    assert (house.refused, house.admission.room) == (5, 0)
    house.until(house.now + 10)
    crowd(house, 100, 10)
    house.until(house.now + 0.01)
    room, refused = house.admission.room, house.refused
    for _ in range(max(0, room) + 3):
        house.arrive(house.now)
    assert house.refused == refused + 3
    house.until(house.now + 10)
    assert house.admission.room == pytest.approx((LONGEST + 0.05) / 0.05, abs=2), "so many are served in that time"


def test_one_key_leaves_half_of_the_places_to_others_and_who_has_hardly_any_comes_in() -> None:
    now = [0.0]
    admission = Admission(LONGEST, lambda: now[0])
    places = [admission.come("loud") for _ in range(UNKNOWN)]
    assert (admission.room, admission.share) == (0, 0), "alone it has them all"
    with pytest.raises(UnavailableError):
        admission.come("loud")
    others = [admission.come("quiet") for _ in range(FEW)]
    with pytest.raises(UnavailableError):
        admission.come("quiet")
    others += [admission.come(f"quiet {n}") for n in range(BEYOND - FEW)]
    with pytest.raises(UnavailableError):
        admission.come("one more")  # they are a crowd themselves
    assert admission.share == UNKNOWN // 2
    for place in others:
        place.leave(served=False)
    for place in places[: UNKNOWN // 4]:
        place.leave(served=False)
    with pytest.raises(UnavailableError):
        admission.come("loud")
    quiet = [admission.come("quiet") for _ in range(UNKNOWN // 4)]
    for place in [*places, *quiet]:
        place.leave(served=False)
    assert (admission.inside, len(admission._of)) == (0, 0)
    now[0] = 100.0
    for _ in range(UNKNOWN):
        admission.come("loud")


def test_who_waits_for_no_turn_is_let_in_and_the_edge_is_told_the_room() -> None:
    service = Service(section=ServeSection(longest_wait_s=600))
    with service.client() as client:
        reply = client.post("/v1/chat/completions", json=CHAT)
        assert (reply.status_code, int(reply.headers[ROOM])) == (200, UNKNOWN + 1), "itself and as many"
        assert reply.headers[SHARE] == "0", "nobody else asks"
        assert service.gateway is not None
        places = [service.gateway.admission.come(LOCAL.key_id) for _ in range(UNKNOWN)]
        logged = len(service.log)
        refused = client.post("/v1/chat/completions", content=b"not even JSON")
        assert (refused.status_code, refused.headers[ROOM]) == (503, "1"), "before its body is looked at"
        assert refused.json()["error"]["code"] == "server_is_overloaded"
        assert len(service.log) == logged, "a crowd is counted, and written down nowhere"
        assert ("plinth_refused_total", 1, {"reason": "crowd"}) in service.recorder.values
        assert client.get("/v1/models").status_code == 200
        places[0].leave()
        assert client.post("/v1/chat/completions", json=CHAT).status_code == 200
        assert client.post("/v1/chat/completions", content=b"not even JSON").status_code == 400
        assert service.gateway.admission.inside == UNKNOWN - 1, "whoever was refused for another reason is gone"


def test_where_several_keys_ask_the_edge_is_told_the_share_of_one() -> None:
    service = Service(section=ServeSection(longest_wait_s=600))
    with service.client() as client:
        assert client.post("/v1/chat/completions", json=CHAT).headers[SHARE] == "0"
        assert service.gateway is not None
        service.gateway.admission.ask("somebody else")
        assert client.get("/v1/models").headers[SHARE] == str(UNKNOWN // 2 + 1), "and whoever waits for nothing"
