"""What a key may ask: others' collections are not there, models are refused, kept answers stay with its rights."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import Any

import pytest

from cluster.core.access import Rights
from cluster.core.identity import LOCAL, NOBODY, Principal
from cluster.core.sections.cache import CacheSection
from cluster.core.sections.serve import ServeSection
from data_jobs.retrieval.results import OutlineFound, Retrieval, Understood
from serve_apps.api.openai_http import HttpService
from serve_apps.api.routes import Call
from serve_apps.api.schema import ChatRequest, EmbeddingRequest, SearchRequest
from serve_apps.errors import ApiError, UnavailableError
from serve_apps.gateway.exchange import Ask, Done
from serve_apps.gateway.protocols import Band, Sampling, TierState
from serve_apps.gateway.request_log import RequestRecord
from serve_apps.gateway.rights import answering, as_seen, sees
from serve_apps.routing.rules import Features
from tests.fakes import CITATION, PASSAGE, FixedRetriever, ScriptedTier
from tests.serve_apps.service import EMBEDDER, QUESTION, Service

ACME = Principal("a", "acme", frozenset({"hr"}))
OTHER = Principal("b", "umbrella")
ASK = Ask("auto", (("user", QUESTION),), Sampling())


class House:
    """A service without its HTTP middleware: whoever asks is handed in."""

    def __init__(self, **parts: Any) -> None:
        self.service = Service(**parts)
        self.service.app()
        gateway = self.service.gateway
        assert gateway is not None
        self.gateway, self.retriever = gateway, self.service.retriever
        parts = (gateway, self.service.section, self.service.metrics, None, self.service.doorkeeper)
        self.http = HttpService(*parts)  # type: ignore[arg-type]

    def get(self, route: str, principal: Principal, **path: str) -> Any:
        call = Call(RequestRecord("req_1", principal=principal), None, path)
        return json.loads(bytes(asyncio.run(getattr(self.http, route)(call)).body))

    async def _answer(self, principal: Principal, body: dict[str, Any]) -> Done:
        record = RequestRecord("req_1", principal=principal)
        asked = ChatRequest(**{"model": "auto", "messages": [{"role": "user", "content": QUESTION}], **body})
        await self.gateway.collections.choose(asked.collection, record, asked.collection_param)
        ask = replace(ASK, model=asked.tier, turns=asked.turns)
        (done,) = [event async for event in self.gateway.answer(ask, record) if isinstance(event, Done)]
        return done

    def answer(self, principal: Principal, **body: Any) -> dict[str, Any]:
        return asyncio.run(self._answer(principal, body)).plinth

    def refused(self, principal: Principal, **body: Any) -> ApiError:
        with pytest.raises(ApiError) as error:
            self.answer(principal, **body)
        return error.value


# -- the retriever is told who asks ------------------------------------------------------------------------------------
def test_rights_of_the_key_go_with_every_search() -> None:
    house = House()
    house.answer(ACME)
    house.answer(LOCAL)
    assert house.retriever.rights == [Rights("acme", ("hr",)), Rights("default")]


@pytest.mark.parametrize("where", ["passages", "parts", "outline"])
def test_what_may_not_be_read_goes_no_further_even_if_an_index_finds_it(where: str) -> None:
    secret = replace(PASSAGE, access="umbrella", document="secret.md")
    inside = Retrieval(QUESTION, (secret,))
    found = Retrieval(QUESTION, (PASSAGE,), index_version="v1")
    if where == "passages":
        found = replace(found, passages=(PASSAGE, secret))
    elif where == "parts":
        found = replace(found, understood=Understood(parts=(inside,)))
    else:
        found = replace(found, understood=Understood(outline=OutlineFound("d", "D", "file", passages=(secret,))))
    house = House(retriever=FixedRetriever(found=found))
    with pytest.raises(UnavailableError, match="may not read"):
        house.answer(ACME)
    assert house.answer(OTHER)["tier"] == "quote", "whose it is gets it"


# -- collections -------------------------------------------------------------------------------------------------------
def shared() -> FixedRetriever:
    retriever = FixedRetriever(names=("main", "acme-docs", "umbrella-docs", "mixed"))
    retriever.labels = {
        "acme-docs": {"acme": 3, "acme:board": 9}, "umbrella-docs": {"umbrella": 5},
        "mixed": {"": 2, "acme:hr": 4, "umbrella": 8},
    }  # fmt: skip
    return retriever


def names(house: House, principal: Principal) -> list[str]:
    return [card["id"] for card in house.get("collections", principal)["data"]]


def test_a_key_sees_the_collections_it_may_ask_and_read_of() -> None:
    house = House(retriever=shared())
    assert names(house, ACME) == ["acme-docs", "main", "mixed"]
    assert names(house, OTHER) == ["main", "mixed", "umbrella-docs"]
    assert names(house, LOCAL) == ["main", "mixed"]
    assert names(house, replace(ACME, collections=("mixed", "umbrella-docs", "nowhere"))) == ["mixed"]


def test_a_collection_that_a_key_may_not_ask_is_refused_like_one_that_is_not_there() -> None:
    house = House(retriever=shared())
    narrow = replace(ACME, collections=("mixed",))
    for principal, hidden in ((ACME, "umbrella-docs"), (narrow, "acme-docs"), (narrow, "main")):
        for ask in (
            lambda name, who=principal: house.refused(who, model=f"auto@{name}"),
            lambda name, who=principal: house.refused(who, plinth={"collection": name}),
            lambda name, who=principal: refusal(house, "collection", who, id=name),
            lambda name, who=principal: refusal(house, "examples", who, collection=name),
            lambda name, who=principal: refusal(house, "model", who, id=f"auto@{name}"),
        ):
            there, absent = ask(hidden), ask("no-such")
            assert (there.status, there.extras["code"]) == (absent.status, absent.extras["code"])
            assert there.status == 404
            assert there.message.replace(hidden, "no-such") == absent.message
            assert hidden not in absent.message
    assert all("umbrella-docs" not in str(rights) for rights in house.retriever.rights)


def refusal(house: House, route: str, principal: Principal, **path: str) -> ApiError:
    with pytest.raises(ApiError) as error:
        house.get(route, principal, **path)
    return error.value


def test_search_and_embeddings_refuse_as_answers_do() -> None:
    house = House(retriever=shared())
    narrow = replace(ACME, collections=("mixed",), models=("auto",))

    body = SearchRequest(query="x", plinth={"collection": "acme-docs"})
    with pytest.raises(ApiError) as error:
        asyncio.run(house.http.search(Call(RequestRecord("req_1", principal=narrow), body)))
    assert error.value.status == 404

    async def embedded() -> Any:
        return await house.gateway.lookups.embed(EMBEDDER, ["x"], RequestRecord("req_1", principal=narrow))

    assert EmbeddingRequest(model=EMBEDDER, input="x").texts
    with pytest.raises(ApiError) as error:
        asyncio.run(embedded())
    assert (error.value.status, error.value.extras["code"]) == (404, "model_not_found")
    assert EMBEDDER not in error.value.message.partition(";")[2]


def test_without_a_name_a_key_asks_the_default_or_the_first_that_it_may() -> None:
    house = House(retriever=shared())
    assert house.answer(ACME)["collection"] == "main"
    assert house.answer(replace(ACME, collections=("mixed", "main")))["collection"] == "main"
    assert house.answer(replace(ACME, collections=("mixed", "acme-docs")))["collection"] == "acme-docs"
    gone = house.refused(replace(ACME, collections=("umbrella-docs", "nowhere")))
    assert (gone.status, gone.extras["code"]) == (404, "collection_not_found")


def test_of_a_collection_only_one_s_own_part_is_counted_and_no_label_told() -> None:
    house = House(retriever=shared())
    for principal, count in ((ACME, 6), (OTHER, 10), (LOCAL, 2)):
        card = house.get("collection", principal, id="mixed")
        assert (card["documents"], card["chunks"]) == (count, None)
        assert "access" not in card
        assert "umbrella" not in json.dumps(card)
    assert house.get("collection", ACME, id="main")["documents"] == 1
    whole = {"collection": "c", "documents": 7, "chunks": 9, "access": {"acme": 7}}
    assert as_seen(whole, ACME) == {"collection": "c", "documents": 7, "chunks": 9}
    assert not sees(whole, NOBODY)


# -- models ------------------------------------------------------------------------------------------------------------
def tiers(**more: Any) -> dict[str, Any]:
    return {name: ScriptedTier(state=TierState(name, continues=True, model_version="m")) for name in ("small", "large")}


def test_a_model_that_a_key_may_not_ask_is_refused_and_not_listed() -> None:
    house = House(models=tiers())
    narrow = replace(ACME, models=("small", "auto"))
    for name in ("large", "quote"):
        error, unknown = house.refused(narrow, model=name), house.refused(narrow, model="no-such")
        assert (error.status, error.extras["code"], error.extras["param"]) == (404, "model_not_found", "model")
        assert error.message.replace(name, "no-such") == unknown.message, "nothing tells it from one that is not here"
        assert error.extras == unknown.extras
    listed = {card["id"].partition("@")[0] for card in house.get("models", narrow)["data"]}
    assert listed == {"small", "auto"}
    assert {"large", "quote", EMBEDDER} <= {card["id"] for card in house.get("models", ACME)["data"]}
    assert refusal(house, "model", narrow, id="large").status == 404
    assert house.refused(replace(ACME, models=("small",))).status == 404, "auto is a name, too"


def test_auto_chooses_among_the_models_that_a_key_may_ask() -> None:
    states = [TierState("quote", fallback=True), TierState("small"), TierState("large")]
    for models, left in (
        ((), ["quote", "small", "large"]),
        (("auto",), ["quote", "small", "large"]),
        (("auto", "small"), ["small"]),
        (("large", "auto", "quote"), ["quote", "large"]),
    ):
        assert [state.name for state in answering(states, replace(ACME, models=models))] == left
    house = House(models=tiers())
    assert house.answer(replace(ACME, models=("auto", "large")))["tier"] == "large"


# -- kept answers ------------------------------------------------------------------------------------------------------
def test_a_kept_answer_is_for_who_has_the_same_rights_and_for_nobody_else() -> None:
    house = House(section=ServeSection(cache=CacheSection(on=True)))
    same = Principal("another-key", "acme", frozenset({"hr"}))
    others = (OTHER, LOCAL, Principal("c", "acme"), Principal("d", "acme", frozenset({"hr", "board"})),
              Principal("e", "umbrella", frozenset({"hr"})))  # fmt: skip
    assert house.answer(ACME)["cache"] == "miss"
    assert [house.answer(who)["cache"] for who in (ACME, same)] == ["hit", "hit"]
    assert [house.answer(who)["cache"] for who in others] == ["miss"] * len(others)
    assert [house.answer(who)["cache"] for who in others] == ["hit"] * len(others)


def test_a_kept_answer_of_others_rights_is_not_given_even_under_ones_own_key() -> None:
    house = House(section=ServeSection(cache=CacheSection(on=True)))
    house.answer(ACME)
    recall = house.gateway._recall
    own, key = (recall.key(ASK, RequestRecord("r", principal=who)) for who in (ACME, OTHER))
    assert own is not None
    assert key is not None
    assert key.digest != own.digest
    kept = recall._cache.get(own.digest)
    assert kept is not None
    recall._cache.put(key.digest, kept)
    assert house.answer(OTHER)["cache"] == "miss"


def test_a_key_of_other_models_does_not_share_answers_of_auto() -> None:
    house = House(section=ServeSection(cache=CacheSection(on=True)), models=tiers())
    assert house.answer(replace(ACME, models=("auto", "large")))["tier"] == "large"
    narrow = house.answer(replace(ACME, models=("auto", "small")))
    assert (narrow["cache"], narrow["tier"]) == ("miss", "small")


# -- models that were trained on labelled documents --------------------------------------------------------------------
SECRET = TierState("secret", continues=True, model_version="m", bands=(Band(0.0, 1.01, 100, 0.9, 0.4),),
                   access=("", "acme", "acme:hr"))  # fmt: skip
MATE = Principal("c", "acme")  # of the tenant, and not of the group
NARROW = replace(ACME, models=("auto", "secret"))


def trained(state: TierState = SECRET, **more: Any) -> tuple[House, ScriptedTier]:
    tier = ScriptedTier(state=state, citations=(CITATION,))
    return House(models={"secret": tier}, features=Features(0.9), **more), tier


def test_a_model_of_labelled_documents_answers_who_may_read_all_of_them() -> None:
    house, tier = trained()
    assert house.answer(ACME)["tier"] == "secret"
    assert house.answer(NARROW, model="secret")["tier"] == "secret"
    assert len(tier.questions) == 2


@pytest.mark.parametrize(
    "who", [MATE, OTHER, LOCAL, replace(OTHER, groups=frozenset({"hr"}))], ids=lambda who: who.tenant
)
def test_for_others_it_is_not_there_and_auto_has_another_answer(who: Principal) -> None:
    house, tier = trained()
    assert house.answer(who)["tier"] == "quote"
    error, unknown = house.refused(who, model="secret"), house.refused(who, model="no-such")
    assert (error.status, error.extras) == (404, unknown.extras)
    assert error.message.replace("secret", "no-such") == unknown.message
    assert "secret" not in {card["id"].partition("@")[0] for card in house.get("models", who)["data"]}
    assert refusal(house, "model", who, id="secret").status == 404
    assert tier.questions == []


def test_it_is_no_substitute_either() -> None:
    outside = TierState("outside", external=True, instead="secret", continues=True, enabled=False)
    house = House(models={"outside": ScriptedTier(state=outside), "secret": ScriptedTier(state=SECRET)})
    assert house.answer(ACME, model="outside")["tier"] == "secret"
    with pytest.raises(UnavailableError):
        house.answer(MATE, model="outside")


def test_a_damaged_label_is_for_nobody() -> None:
    house, _ = trained(replace(SECRET, access=("acme", "not a label!")))
    assert house.answer(ACME)["tier"] == "quote"


def test_its_answers_count_as_made_of_labelled_documents_given_again_too() -> None:
    cache = ServeSection(cache=CacheSection(on=True))
    for state, labelled in ((SECRET, True), (replace(SECRET, access=("",)), False)):
        house, tier = trained(state, section=cache)

        async def asked(house: House = house) -> RequestRecord:
            record = RequestRecord("req_1", principal=ACME)
            await house.gateway.collections.choose("", record, "model")
            async for _ in house.gateway.answer(ASK, record):
                pass
            return record

        async def twice(ask: Any = asked) -> list[RequestRecord]:
            return [await ask(), await ask()]

        records = asyncio.run(twice())
        assert [record.labelled for record in records] == [labelled, labelled]
        assert [record.cache for record in records] == ["miss", "hit"]
        assert len(tier.questions) == 1
