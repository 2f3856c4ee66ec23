"""Answers given again, over HTTP: what a hit passes and gives, what is never kept, what removes it."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from cluster.core.records import Answer, Verdict
from cluster.core.sections.cache import CacheSection
from cluster.core.sections.serve import ServeSection
from data_jobs.retrieval.results import Retrieval
from serve_apps.errors import UnavailableError
from serve_apps.gateway.cache_key import Versions
from serve_apps.gateway.protocols import Band, TierState
from serve_apps.guards.protocol import InputCheck
from tests.fakes import CITATION, PASSAGE, TEXT, FixedRetriever, MemoryRecorder, RealGuard, ScriptedTier, ToyClassifier
from tests.serve_apps.service import CHAT, QUESTION, Service, eventually

ON = ServeSection(cache=CacheSection(on=True))
MODEL = TierState("small", continues=True, samples=True, model_version="m1")
ROUTE = "/v1/chat/completions"


class WatchedGuard(RealGuard):
    """Remembers what came in; refuses it, or puts a mark on it, when told to."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.seen_in: list[list[str]] = []
        self.refuses, self.mark = False, ""

    async def check_input(self, texts: list[str], prompts: bool = True) -> list[InputCheck]:
        self.seen_in.append(texts)
        if self.refuses:
            return [InputCheck("", (Verdict("guard_in", "block", "dangerous", "no"),)) for _ in texts]
        return [replace(check, text=check.text + self.mark) for check in await super().check_input(texts, prompts)]


def serving(**parts: Any) -> Service:
    return Service(**{"section": ON, "guard": WatchedGuard(), **parts})


def chat(client: TestClient, headers: dict[str, str] | None = None, **more: Any) -> Any:
    return client.post(ROUTE, json={**CHAT, **more}, headers=headers)


def outcome(reply: Any) -> str:
    """What header and body say of the cache; both, or neither, say the same."""
    assert reply.status_code == 200, reply.text
    assert reply.json()["plinth"]["cache"] == reply.headers.get("x-plinth-cache", "off")
    return str(reply.json()["plinth"]["cache"])


def outcomes(client: TestClient, times: int = 2, **more: Any) -> list[str]:
    return [outcome(chat(client, **more)) for _ in range(times)]


def told(body: dict[str, Any]) -> dict[str, Any]:
    """A body without what every request has of its own."""
    plinth = {key: value for key, value in body["plinth"].items() if key not in ("answer_id", "cache", "timings_ms")}
    return {**{key: value for key, value in body.items() if key not in ("id", "created")}, "plinth": plinth}


# -- a hit -------------------------------------------------------------------------------------------------------------
def test_the_second_time_it_is_the_same_answer_without_search_and_tier() -> None:
    service = serving()
    client = service.client()
    first, second = chat(client), chat(client)
    assert (outcome(first), outcome(second)) == ("miss", "hit")
    assert told(second.json()) == told(first.json())
    assert second.json()["choices"][0]["message"]["content"] == TEXT
    assert second.json()["plinth"]["citations"][0]["document"] == CITATION.document
    assert (len(service.tier.questions), len(service.retriever.questions)) == (1, 1)
    assert second.json()["plinth"]["answer_id"][4:] == second.headers["x-request-id"][4:]
    assert second.json()["plinth"]["answer_id"] != first.json()["plinth"]["answer_id"]
    assert set(second.json()["plinth"]["timings_ms"]) == {"plan", "cache", "guard_in", "total"}


def test_the_log_line_of_a_hit_says_what_answered_and_metrics_count_it() -> None:
    service = serving()
    outcomes(service.client())
    first, second = service.log
    same = ("tier", "routed", "grounded", "reason", "index_version", "collection", "prompt_tokens", "completion_tokens")
    assert {key: second[key] for key in same} == {key: first[key] for key in same}
    assert [line["cache"] for line in service.log] == ["miss", "hit"]
    counted = [labels for name, _, labels in service.recorder.values if name == "plinth_cache_requests_total"]
    assert counted == [{"outcome": "miss", "tier": "quote"}, {"outcome": "hit", "tier": "quote"}]


def test_gateways_of_one_machine_give_what_one_of_them_kept(tmp_path: Path) -> None:
    one, other, stranger = serving(answers=tmp_path), serving(answers=tmp_path), serving()
    first, second = chat(one.client()), chat(other.client())
    assert [outcome(reply) for reply in (first, second, chat(stranger.client()))] == ["miss", "hit", "miss"]
    assert told(second.json()) == told(first.json())
    assert (one.tier.questions, other.tier.questions) == ([QUESTION], [])
    elsewise = serving(answers=tmp_path, versions=Versions("other settings"))
    assert outcome(chat(elsewise.client())) == "miss", "what shapes an answer is in the key, whoever shares"
    other.retriever.forgotten = one.retriever.forgotten = 1
    assert outcome(chat(other.client())) == "miss"
    assert outcome(chat(one.client())) == "hit", "the new answer"
    assert one.tier.questions == [QUESTION]


def test_off_nothing_is_kept_and_no_header_speaks_of_it() -> None:
    service = serving(section=ServeSection())
    assert outcomes(service.client()) == ["off", "off"]
    assert len(service.tier.questions) == 2
    assert service.log[-1]["cache"] is None
    assert not [name for name, _, _ in service.recorder.values if name.startswith("plinth_cache")]


def events_of(client: TestClient, route: str, body: dict[str, Any]) -> tuple[str, list[dict[str, Any]]]:
    """What the header says, and a stream's events without what every request has of its own."""
    with client.stream("POST", route, json={**body, "stream": True}) as reply:
        assert reply.status_code == 200
        lines = [line for line in reply.iter_lines() if line.startswith("data: {")]
        found = [json.loads(line.removeprefix("data: ")) for line in lines]
        return reply.headers["x-plinth-cache"], [_without_ids(event) for event in found]


def _without_ids(value: Any) -> Any:
    own = ("id", "item_id", "created", "created_at", "answer_id", "timings_ms", "cache")
    if isinstance(value, dict):
        return {key: _without_ids(inner) for key, inner in value.items() if key not in own}
    return [_without_ids(inner) for inner in value] if isinstance(value, list) else value


@pytest.mark.parametrize(
    ("route", "body"),
    [
        (ROUTE, {**CHAT, "stream_options": {"include_usage": True}}),
        ("/v1/responses", {"model": "auto", "input": QUESTION}),
    ],
)
def test_a_hit_streams_the_same_events(route: str, body: dict[str, Any]) -> None:
    service = serving(tier=ScriptedTier(deltas=[TEXT[at : at + 30] for at in range(0, len(TEXT), 30)]))
    client = service.client()
    first, second = events_of(client, route, body), events_of(client, route, body)
    assert (first[0], second[0]) == ("miss", "hit")
    assert second[1] == first[1]
    assert len(first[1]) > 10
    assert len(service.tier.questions) == 1


def test_what_was_asked_whole_is_streamed_and_the_other_way_round_on_every_route() -> None:
    service = serving()
    client = service.client()
    whole = chat(client).json()["choices"][0]["message"]["content"]
    said, events = events_of(client, ROUTE, CHAT)
    assert said == "hit"
    assert "".join(event["choices"][0]["delta"].get("content") or "" for event in events) == whole
    newer = client.post("/v1/responses", json={"model": "auto", "input": QUESTION})
    assert newer.headers["x-plinth-cache"] == "hit"
    assert newer.json()["output"][0]["content"][0]["text"] == whole


def test_what_is_noted_of_a_request_is_its_own() -> None:
    client = serving().client()
    assert "user" not in chat(client).json()["plinth"]["ignored"]
    again = chat(client, metadata={"a": "b"})
    assert outcome(again) == "hit"
    assert again.json()["plinth"]["ignored"] == ["metadata"]


# -- what a hit has to pass --------------------------------------------------------------------------------------------
def test_the_guard_sees_the_question_of_every_hit_and_may_refuse_it() -> None:
    service = serving()
    client = service.client()
    assert outcomes(client) == ["miss", "hit"]
    assert service.guard.seen_in == [[QUESTION], [QUESTION]]
    service.guard.refuses = True
    refused = chat(client)
    assert refused.status_code == 400
    assert refused.json()["error"]["code"] == "content_policy_violation"
    assert TEXT not in refused.text
    service.guard.refuses = False
    assert outcomes(client, 1) == ["hit"], "it was the guard, not the answer"


def test_without_a_guard_nothing_leaves() -> None:
    service = serving()
    client = service.client()
    outcomes(client)
    service.guard.fail_input = True
    assert chat(client).status_code == 503


def test_a_guard_that_lets_another_text_go_on_has_it_answered_anew() -> None:
    service = serving()
    client = service.client()
    assert outcomes(client) == ["miss", "hit"]
    service.guard.mark = " please"
    assert outcomes(client) == ["miss", "hit"]
    assert service.tier.questions == [QUESTION, f"{QUESTION} please"]


def test_verdicts_on_what_leaves_are_told_again() -> None:
    mail = "Write to jane.doe@mail.acme.io. [1]"
    client = serving(tier=ScriptedTier(deltas=(mail,))).client()
    first, second = chat(client), chat(client)
    assert outcome(second) == "hit"
    assert "jane.doe" not in second.text
    assert second.json()["plinth"]["verdicts"] == first.json()["plinth"]["verdicts"]
    assert ("guard_out", "redact") in {(v["stage"], v["action"]) for v in second.json()["plinth"]["verdicts"]}


def test_where_the_retriever_does_not_say_what_is_live_nothing_kept_is_given() -> None:
    service = serving()
    client = service.client()
    chat(client)
    service.retriever.down = True
    assert chat(client).status_code == 503
    service.retriever.down = False
    assert outcomes(client, 1) == ["hit"]


# -- never kept --------------------------------------------------------------------------------------------------------
class PartlyTier(ScriptedTier):
    """Answers a part of what was asked."""

    async def stream(self, *arguments: Any) -> Any:
        async for item in super().stream(*arguments):
            yield replace(item, reason="partly_supported", not_found=("b",)) if isinstance(item, Answer) else item


UNREAD = Retrieval("", (PASSAGE,), (), {}, "v1", "2026-01-01T00:00:00+00:00", reader="failed")
NEVER: dict[str, dict[str, Any]] = {
    "refused": {"tier": ScriptedTier(grounded=False, citations=())},
    "in part": {"tier": PartlyTier()},
    "without evidence that was wanted": {"retriever": FixedRetriever(found=UNREAD)},
    "withheld": {"guard": WatchedGuard(chain=ToyClassifier()), "tier": ScriptedTier(deltas=("poison explosive",))},
}


@pytest.mark.parametrize("why", NEVER)
def test_what_is_no_whole_answer_is_never_kept(why: str) -> None:
    service = serving(**NEVER[why])
    assert outcomes(service.client(), 3) == ["miss"] * 3


def test_what_the_fallback_says_in_place_of_another_is_never_kept() -> None:
    better = replace(MODEL, bands=(Band(0.0, 1.0, 40, 0.9, 0.5),))
    small = ScriptedTier(state=better, deltas=(), error=UnavailableError("down"))
    client = serving(models={"small": small}).client()
    assert outcomes(client, 3) == ["miss"] * 3
    assert chat(client).json()["plinth"]["route"]["reason"] == "fallback"
    small.error = None
    assert outcomes(client) == ["miss", "hit"]


def test_what_is_cut_short_is_never_kept() -> None:
    client = serving().client()
    assert outcomes(client, max_tokens=4) == ["miss", "miss"]
    assert outcomes(client, max_tokens=400) == ["miss", "hit"]
    assert outcomes(client, stop=["directory"]) == ["miss", "hit"], "a stop sequence ends what was asked for"


def test_what_broke_off_is_never_kept() -> None:
    service = serving(tier=ScriptedTier(breaks_off=True))
    client = service.client()
    assert chat(client).status_code == 503
    service.tier.breaks_off = False
    assert outcomes(client) == ["miss", "hit"]


def test_whom_a_busy_moment_chose_is_never_kept() -> None:
    """Of two tiers as good as each other the one that is free answers: another time it is the other one."""
    usual = TierState("small", model_version="m1", latency_ms=10.0, ongoing=9)
    other = TierState("other", model_version="o1", latency_ms=20.0)
    small = ScriptedTier(state=usual)
    service = serving(
        models={"small": small, "other": ScriptedTier(state=other)},
        tier=ScriptedTier(state=TierState("quote", earned=False)),
    )
    client = service.client()
    assert outcomes(client) == ["miss", "miss"]
    assert chat(client).json()["plinth"]["route"]["reason"] == "less_loaded"
    small.state = replace(usual, ongoing=0)
    assert outcomes(client) == ["miss", "hit"]


# -- not looked up -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("said", ["no-store", "No-Cache", "max-age=0, no-store"])
def test_who_asks_for_a_fresh_answer_gets_one(said: str) -> None:
    service = serving()
    client = service.client()
    outcomes(client)
    assert outcome(chat(client, {"cache-control": said})) == "bypass"
    assert outcome(chat(client, store=False)) == "bypass"
    assert len(service.tier.questions) == 3
    assert outcome(chat(client, {"cache-control": "max-age=0"}, store=True)) == "hit"


def test_what_nobody_may_keep_is_not_kept() -> None:
    client = serving().client()
    assert outcome(chat(client, store=False)) == "bypass"
    assert outcome(chat(client, {"cache-control": "no-store"})) == "bypass"
    assert outcomes(client, 1) == ["miss"]


def test_what_is_drawn_by_lot_is_neither_kept_nor_given_again() -> None:
    service = serving(models={"small": ScriptedTier(state=MODEL)})
    client = service.client()
    assert outcomes(client, model="small", temperature=0.7) == ["bypass", "bypass"]
    assert outcomes(client, model="small", temperature=0.7, seed=3) == ["miss", "hit"]
    assert outcomes(client, model="small", temperature=0.0) == ["miss", "hit"]
    assert outcomes(client, model="auto", temperature=0.7) == ["bypass", "bypass"], "small may be the one to answer"
    assert outcomes(client, model="quote", temperature=0.7) == ["miss", "hit"], "it draws nothing"


def test_a_continuation_and_a_courtesy_are_not_looked_up() -> None:
    client = serving(models={"small": ScriptedTier(state=MODEL)}).client()
    for _ in range(2):
        reply = client.post("/v1/completions", json={"model": "small", "prompt": "Once upon"})
        assert reply.headers["x-plinth-cache"] == reply.json()["plinth"]["cache"] == "bypass"
    assert outcomes(client, messages=[{"role": "user", "content": "Thanks!"}]) == ["bypass", "bypass"]


# -- another question --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "changed",
    [
        {"model": "quote"},
        {"model": "auto@boats"},
        {"messages": [{"role": "user", "content": "How do I delete a directory tree?"}]},
        {"messages": [{"role": "system", "content": "Be brief."}, *CHAT["messages"]]},
        {"seed": 5},
        {"max_tokens": 300},
    ],
)  # fmt: skip
def test_who_asks_something_else_gets_its_own_answer(changed: dict[str, Any]) -> None:
    client = serving(retriever=FixedRetriever(names=("main", "boats"))).client()
    outcomes(client)
    assert outcomes(client, **changed) == ["miss", "hit"]
    assert outcomes(client, 1) == ["hit"]


def test_another_white_space_is_the_same_question() -> None:
    client = serving().client()
    outcomes(client)
    assert outcomes(client, 1, messages=[{"role": "user", "content": f"  {QUESTION.replace(' ', '  ')}\n"}]) == ["hit"]


@pytest.mark.parametrize("versions", [Versions("new settings", "p"), Versions("s", "new policy")])
def test_a_gateway_of_other_settings_or_guards_starts_anew(versions: Versions) -> None:
    """The key has them, whoever should one day share what is kept."""
    service = serving(versions=Versions("s", "p"))
    client = service.client()
    outcomes(client)
    assert service.gateway is not None
    service.gateway._recall._versions = versions
    assert outcomes(client) == ["miss", "hit"]


# -- what removes it ---------------------------------------------------------------------------------------------------
def kept(service: Service) -> dict[str, float]:
    """Entries and removals, as a gateway reports them after it looked after what it keeps."""
    recorder = MemoryRecorder()
    assert service.gateway is not None
    asyncio.run(service.gateway.tidy(recorder))
    return {"".join((name, *labels.values())): value for name, value, labels in recorder.values}


@pytest.mark.parametrize("how", ["edited", "forgotten", "another default"])
def test_a_change_of_what_it_rests_on_removes_it(how: str) -> None:
    service = serving(retriever=FixedRetriever(names=("main", "boats")))
    client = service.client()
    assert outcomes(client, 3) == ["miss", "hit", "hit"]
    if how == "edited":
        service.retriever.versions["main"] = "v7"
    elif how == "forgotten":
        service.retriever.forgotten += 1
    else:
        service.retriever.names.reverse()
    eventually(lambda: outcome(chat(client)) == "miss")
    again = chat(client)
    assert outcome(again) == "hit"
    assert again.json()["plinth"]["collection"] == ("boats" if how == "another default" else "main")
    assert again.json()["plinth"]["index_version"] == {"edited": "v7", "forgotten": "v1"}.get(how, "v2")
    assert len(service.tier.questions) == 2


def test_what_was_searched_before_a_document_was_forgotten_is_not_given_after_it() -> None:
    """A retriever that has not heard of it yet answers, another one has: the answer says what its own index heeded."""
    service = serving()
    client = service.client()
    found = Retrieval("", (PASSAGE,), (), {}, "v1", "2026-01-01T00:00:00+00:00", forgotten=2)
    service.retriever._found, service.retriever.forgotten = found, 3
    assert outcomes(client, 3) == ["miss"] * 3
    service.retriever._found = replace(found, forgotten=3)
    assert outcomes(client) == ["miss", "hit"]


@pytest.mark.parametrize("how", ["edited", "forgotten"])
def test_nobody_needs_to_ask_for_it_to_be_removed(how: str) -> None:
    service = serving()
    outcomes(service.client(), 1)
    assert kept(service)["plinth_cache_entries"] == 1
    assert kept(service)["plinth_cache_bytes"] > len(TEXT)
    if how == "edited":
        service.retriever.versions["main"] = "v2"
    else:
        service.retriever.forgotten = 1
    seen: dict[str, float] = {}
    eventually(lambda: seen.update(kept(service)) or seen["plinth_cache_entries"] == 0)
    assert seen["plinth_cache_bytes"] == 0
    assert seen["plinth_cache_removed_totaloutdated"] == 1


def test_what_was_under_way_while_the_index_changed_is_removed_too() -> None:
    service = serving()
    client = service.client()
    service.retriever._found = Retrieval("", (PASSAGE,), (), {}, "v1", "2026-01-01T00:00:00+00:00")
    service.retriever.versions["main"] = "v2"
    for _ in range(2):  # the second time nothing has changed since
        assert outcomes(client, 1) == ["miss"]
        assert kept(service)["plinth_cache_entries"] == 0


def test_a_retriever_that_is_away_removes_nothing() -> None:
    service = serving()
    outcomes(service.client(), 1)
    service.retriever.down = True
    assert kept(service)["plinth_cache_entries"] == 1


def test_a_new_model_or_one_that_lost_its_place_answers_itself() -> None:
    small = ScriptedTier(state=MODEL)
    client = serving(models={"small": small}).client()
    for state in (MODEL, replace(MODEL, model_version="m2"), replace(MODEL, earned=False)):
        small.state = state
        assert outcomes(client, model="auto") == ["miss", "hit"]
    assert outcomes(client, 1, model="quote") == ["miss"]
    small.state = replace(MODEL, model_version="m3")
    assert outcomes(client, 1, model="quote") == ["hit"], "it was never to answer this one"


def test_an_answer_during_which_the_model_changed_is_not_kept() -> None:
    class ChangingTier(ScriptedTier):
        async def stream(self, *arguments: Any) -> Any:
            async for item in super().stream(*arguments):
                self.state = replace(self.state, model_version="m2")
                yield item

    small = ChangingTier(state=MODEL)
    client = serving(models={"small": small}).client()
    assert outcomes(client, 1, model="small") == ["miss"]
    small.state = MODEL
    assert outcomes(client, 1, model="small") == ["miss"]


def test_what_is_too_old_is_answered_anew() -> None:
    service = serving(section=ServeSection(cache=CacheSection(on=True, ttl_s=0.05)))
    client = service.client()
    outcomes(client, 1)
    eventually(lambda: outcome(chat(client)) == "miss", 2)
    assert kept(service)["plinth_cache_removed_totalexpired"] >= 1
