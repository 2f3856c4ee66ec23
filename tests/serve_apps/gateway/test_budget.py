"""Budgets as clients meet them: headers, refusals, caps in mid-stream, and what is booked whatever broke."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from actors.ledger.amounts import Amount, Refusal, Standing
from actors.ledger.ledger import set_tenant_limits
from actors.ledger.usage import usage_rows
from cluster.core.identity import DEFAULT_TENANT, Limits, Principal
from cluster.core.records import Answer
from cluster.core.sections.answer import AnswerSection
from cluster.core.sections.tiers import QUOTE, TierConfig
from serve_apps.errors import UnavailableError
from serve_apps.gateway.budget import EMBEDDING, SEARCH, Budget, MostOfTier, duration, headers, refused
from serve_apps.gateway.exchange import Ask
from serve_apps.gateway.protocols import Sampling, TierState
from serve_apps.gateway.request_log import RequestRecord
from serve_apps.gateway.token_counts import RegexTokenCounter
from tests.actors.ledger.books import House
from tests.fakes import ScriptedTier
from tests.serve_apps.service import CHAT, EMBEDDER, Service, desks, eventually, on_socket

DAY = "2027-01-15"  # of the ledger's clock; the gateway books by its own
LONG = tuple(f"word{n} " for n in range(400))


class Set:
    """A service with a ledger behind it."""

    def __init__(self, folder: Path, price: float = 0.0, **fakes: Any) -> None:
        folder.mkdir(exist_ok=True)
        self.house = House(folder / "spool", f"sqlite:///{folder}/ledger.db")  # a file: several threads look at it
        wallet = self.house.gateway()
        self.budget = Budget(wallet, {"quote": MostOfTier(0, 64, price)}, RegexTokenCounter())
        self.service = Service(budget=self.budget, **fakes)

    def limit(self, **limits: Any) -> None:
        set_tenant_limits(self.house.database, DEFAULT_TENANT, Limits(**limits))

    def booked(self) -> tuple[int, int, int]:
        """Requests, tokens of prompts and of completions in the books and on their way there."""
        rows = usage_rows(self.house.database, "2020-01-01", "2099-01-01")
        pending = list(self.budget.wallet._rows.values())
        pending += [row for report in self.budget.wallet._unsent for row in report.rows]
        return tuple(  # type: ignore[return-value]
            sum(getattr(row, name) for row in [*rows, *pending])
            for name in ("requests", "prompt_tokens", "completion_tokens")
        )

    def lent(self) -> Amount:
        return self.house.ledger.lent()


@pytest.fixture
def place(tmp_path: Path, home: Path) -> Path:
    return tmp_path


def ask(client: Any, **body: Any) -> Any:
    return client.post("/v1/chat/completions", json={**CHAT, **body})


def test_headers_say_how_a_key_stands_and_the_limit_is_exact(place: Path) -> None:
    made = Set(place)
    made.limit(requests_per_minute=3, tokens_per_minute=100_000)
    client = made.service.client()
    lefts = []
    for _ in range(3):
        response = ask(client)
        assert response.status_code == 200
        lefts.append(response.headers["x-ratelimit-remaining-requests"])
    assert lefts == ["2", "1", "0"]
    assert response.headers["x-ratelimit-limit-requests"] == "3"
    assert response.headers["x-ratelimit-limit-tokens"] == "100000"
    refusal = ask(client)
    assert refusal.status_code == 429
    assert refusal.json()["error"]["code"] == "rate_limit_exceeded"
    assert refusal.json()["error"]["type"] == "rate_limit_error"
    assert 1 <= int(refusal.headers["retry-after"]) <= 65
    assert refusal.headers["x-ratelimit-remaining-requests"] == "0"
    assert "x-should-retry" not in refusal.headers
    assert made.booked()[0] == 3, "a refusal is no use"
    made.house.clock.now += 66
    assert ask(client).status_code == 200


def test_a_budget_that_is_gone_is_not_tried_again(place: Path) -> None:
    made = Set(place, price=1.0)
    made.limit(money_per_month=0.06)
    with on_socket(made.service.app()) as url:
        client = openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=2)

        def spend() -> None:
            for _ in range(20):  # each answer costs its tokens
                client.chat.completions.create(**CHAT)

        with pytest.raises(openai.RateLimitError) as refused:
            spend()
        assert refused.value.code == "insufficient_quota"
        assert refused.value.response.headers["x-should-retry"] == "false"
    assert [line["code"] for line in made.service.log if line["event"] == "request"][-1] == "insufficient_quota"
    assert 0 < sum(made.booked()[1:]) <= 60, "a thousand tokens cost 1.0"
    assert made.service.tier.closed == made.booked()[0], "no retry, no free answer"


def test_without_a_ledger_there_is_503_and_no_tier_is_asked(place: Path) -> None:
    made = Set(place)
    made.house.client.down = True
    made.budget.wallet._section = made.house.section.model_copy(update={"wait_s": 0.5})
    client = made.service.client()
    for path, body in (
        ("/v1/chat/completions", CHAT), ("/v1/search", {"query": "leave"}),
        ("/v1/embeddings", {"model": EMBEDDER, "input": "leave"}), ("/v1/usage", None),
    ):  # fmt: skip
        response = client.post(path, json=body) if body else client.get(path)
        assert response.status_code == 503, path
        assert response.json()["error"]["code"] == "server_is_overloaded"
        assert response.headers["retry-after"]
    assert made.service.tier.questions == []


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_ends_when_what_was_reserved_is_used_up(place: Path, stream: bool) -> None:
    made = Set(place, tier=ScriptedTier(LONG, citations=()))
    made.limit(tokens_per_day=30)
    client = made.service.client()
    response = ask(client, stream=stream, **({"stream_options": {"include_usage": True}} if stream else {}))
    assert response.status_code == 200
    if stream:
        chunks = [json.loads(line[6:]) for line in response.text.splitlines() if line.startswith("data: {")]
        finish = [c["choices"][0]["finish_reason"] for c in chunks if c["choices"]][-1]
        usage = chunks[-1]["usage"]
    else:
        finish, usage = response.json()["choices"][0]["finish_reason"], response.json()["usage"]
    assert finish == "length"
    assert usage["total_tokens"] == 30
    assert made.booked() == (1, usage["prompt_tokens"], usage["completion_tokens"])
    assert ask(client).json()["error"]["code"] == "insufficient_quota"


def test_who_says_how_long_the_answer_may_be_gets_that_or_nothing(place: Path) -> None:
    made = Set(place, tier=ScriptedTier(LONG, citations=()))
    made.limit(tokens_per_day=40)
    client = made.service.client()
    assert ask(client, max_tokens=500).status_code == 429
    answered = ask(client, max_tokens=12)
    assert answered.json()["usage"]["completion_tokens"] == 12
    assert made.booked() == (1, answered.json()["usage"]["prompt_tokens"], 12)


def test_a_client_that_leaves_pays_for_what_it_got(place: Path) -> None:
    hold = asyncio.Event()

    class Endless(ScriptedTier):
        async def stream(self, *_: Any) -> AsyncGenerator[str | Answer, None]:
            for word in LONG[:200]:
                yield word
            await hold.wait()

    made = Set(place, tier=Endless())
    made.limit(tokens_per_day=100_000)
    with on_socket(made.service.app()) as url:
        with httpx.stream("POST", f"{url}/v1/chat/completions", json={**CHAT, "stream": True}) as response:
            said = ""
            for line in response.iter_lines():
                if line.startswith("data: {"):
                    said += json.loads(line[6:])["choices"][0]["delta"].get("content") or ""
                if len(said.split()) > 5:
                    break
        eventually(lambda: made.booked()[0] == 1, 20)
        _, prompt, completion = made.booked()
        assert prompt > 0
        assert len(said.split()) <= completion <= 64, "at least what it read, at most what was reserved"
        made.house.clock.now += made.house.section.lease_s + 1  # until then the gateway keeps what was not needed
        eventually(lambda: made.lent() == Amount(), 20)


def test_a_stream_that_breaks_costs_what_was_said_and_a_fault_of_ours_nothing(place: Path) -> None:
    made = Set(place, tier=ScriptedTier(LONG[:200], error=UnavailableError("the engine died")))
    made.limit(tokens_per_day=100_000)
    client = made.service.client()
    assert '"error"' in ask(client, stream=True).text
    requests, prompt, completion = made.booked()
    assert (requests, prompt > 0, 0 < completion <= 64) == (1, True, True)
    made.service.guard.down = True
    silent = Set(place / "other", tier=ScriptedTier((), error=UnavailableError("the engine died")))
    silent.limit(tokens_per_day=100_000, requests_per_minute=1)
    client = silent.service.client()
    for _ in range(3):
        assert ask(client).status_code == 503
    assert silent.booked() == (0, 0, 0), "nor a request of the minute"


def test_embeddings_and_searches_count_too(place: Path) -> None:
    made = Set(place)
    made.limit(requests_per_minute=2)
    client = made.service.client()
    assert client.post("/v1/search", json={"query": "annual leave days"}).status_code == 200
    assert client.post("/v1/embeddings", json={"model": EMBEDDER, "input": ["one two", "three"]}).status_code == 200
    for path, body in (("/v1/search", {"query": "x"}), ("/v1/embeddings", {"model": EMBEDDER, "input": "x"})):
        assert client.post(path, json=body).status_code == 429
    usage = eventually_usage(client, 2)
    assert {(row["tier"], row["requests"], row["prompt_tokens"]) for row in usage["data"]} == {
        (SEARCH, 1, 3), (EMBEDDING, 1, 3),
    }  # fmt: skip
    assert usage["total"]["prompt_tokens"] == 6


def test_examples_count_as_requests_and_a_word_of_help_as_one(place: Path) -> None:
    made = Set(place)
    made.limit(requests_per_minute=2)
    client = made.service.client()
    assert client.get("/v1/plinth/examples").status_code == 200
    help_me = [{"role": "user", "content": "what can you do?"}]
    assert "What is said about thing 0?" in ask(client, messages=help_me).text, "its examples are no second request"
    refusal = client.get("/v1/plinth/examples/main")
    assert (refusal.status_code, refusal.json()["error"]["code"]) == (429, "rate_limit_exceeded")
    assert made.booked()[0] == 2


def test_a_refused_request_counts_as_one_and_costs_no_tokens(place: Path) -> None:
    made = Set(place)
    client = made.service.client()
    assert ask(client, model="nobody").status_code == 404
    assert made.booked() == (1, 0, 0)


def test_usage_is_one_s_own_or_a_tenant_s_for_who_may(place: Path) -> None:
    made = Set(place, price=2.0)
    # On a socket: there the gateway has one event loop, in which it reports by itself.
    with on_socket(made.service.app()) as url, httpx.Client(base_url=url, trust_env=False) as client:
        answered = ask(client).json()["usage"]
        usage = eventually_usage(client, 1)
        (row,) = usage["data"]
        assert (row["key_id"], row["tenant"], row["tier"]) == ("local", "default", "quote")
        assert (row["prompt_tokens"], row["completion_tokens"]) == (
            answered["prompt_tokens"],
            answered["completion_tokens"],
        )
        assert row["money"] == pytest.approx(answered["total_tokens"] * 2 / 1000)
        assert client.get("/v1/usage?tenant=default").json()["data"] == usage["data"], "local may do everything"
        assert client.get("/v1/usage?tenant=other").json()["data"] == []
        assert client.get("/v1/usage?since=2020-01-01&until=2020-01-31").json()["data"] == []
        for wrong in ("since=yesterday", "key=other"):
            assert client.get(f"/v1/usage?{wrong}").status_code == 400

    async def asks_for_others() -> None:
        record = RequestRecord("req_1", principal=Principal("ann", "default", scopes=frozenset({"chat"})))
        await made.budget.usage(record, "", "", "default")

    with pytest.raises(Exception, match="scope admin") as error:
        asyncio.run(asks_for_others())
    assert error.value.status == 403  # type: ignore[attr-defined]


def eventually_usage(client: Any, requests: int) -> dict[str, Any]:
    """The books once they have so many requests."""
    found: dict[str, Any] = {}

    def there() -> bool:
        nonlocal found
        found = client.get("/v1/usage").json()
        return int(found["total"]["requests"]) == requests

    eventually(there, 20)
    return found


def test_what_a_tier_takes_at_most_is_what_its_settings_say() -> None:
    section = AnswerSection()
    assert MostOfTier.of(QUOTE, section) == MostOfTier(0, QUOTE.max_new_tokens, 0.0)
    small = TierConfig(name="small", max_new_tokens=99, price=3.0, answer={"prompt_tokens": 512})
    assert MostOfTier.of(small, section) == MostOfTier(512, 99, 3.0)


def test_the_dearest_of_those_that_may_answer_decides(place: Path) -> None:
    house = House(place / "spool", wait_s=2.0)
    house.section = house.section.model_copy(update={"report_s": 60.0})
    tiers = {
        "quote": MostOfTier(0, 64, 0.0),
        "small": MostOfTier(500, 128, 2.0),
        "far": MostOfTier(900, 32, 5.0, False),
    }
    who = Principal("ann", "lab", limits=Limits(tokens_per_day=10**9))

    async def scene() -> None:
        budget = Budget(house.gateway(), tiers, RegexTokenCounter())
        amounts = []
        for model in ("small", "no-such"):  # the first is here, and the key is told nothing of it
            record = RequestRecord("req_0", principal=who, status=404)
            await budget.answer(Ask(model, (("user", "aé b c"),), Sampling()), record, ["auto", "quote"], tiers)
            assert record.reserved is not None
            amounts.append(record.reserved.hold.amount)
            budget.settle(record)
        assert amounts[0] == amounts[1]
        for model, said, plain, most in (
            ("quote", None, False, (6, 64, 0.0)), ("small", None, False, (14 + 500, 128, 2.0)),
            ("small", 5, False, (14 + 500, 96, 2.0)), ("small", 5, True, (14, 96, 2.0)),
            ("auto", None, False, (14 + 900, 128, 5.0)), ("far", None, False, (14 + 900, 128, 5.0)),
        ):  # fmt: skip
            record = RequestRecord("req_1", principal=who)
            ask = Ask(model, (("user", "aé b c d e ff"),), Sampling(max_tokens=said), plain)
            capped = await budget.answer(ask, record, ["auto", *tiers], tiers)
            assert record.reserved is not None
            prompt, completion, price = most
            tokens = prompt + completion
            assert record.reserved.hold.amount == Amount(1, tokens, round(price * 1000) * tokens), model
            assert capped.sampling.max_tokens == (said or completion)
            record.prompt_tokens, record.completion_tokens, record.tier = 10**6, 10**6, "small"
            budget.settle(record)
            assert budget.settle(record) is None, "once"
        await budget.wallet.stop()
        assert house.ledger.lent() == Amount()

    asyncio.run(scene())


def test_a_tier_that_is_not_there_is_not_reserved_for(place: Path) -> None:
    small = ScriptedTier(state=TierState("small", ready=False))
    made = Set(place, models={"small": small})
    made.budget._tiers["small"] = MostOfTier(5_000, 128, 2.0)
    made.limit(tokens_per_day=500, money_per_month=1.0)
    client = made.service.client()
    assert [ask(client, model=model).status_code for model in ("auto", "quote", "nobody")] == [200, 200, 404]
    small.state = TierState("small", external=True, ready=False)
    assert ask(client, model="auto").status_code == 429, "it may come to answer"
    small.state = TierState("small", access=("law",))
    assert ask(client, model="auto").status_code == 200, "it answers others"
    small.state = TierState("small")
    assert ask(client, model="auto").status_code == 429
    assert ask(client, model="quote").status_code == 200


def test_what_goes_live_meanwhile_costs_no_more_than_was_reserved(place: Path) -> None:
    made = Set(place, price=1.0)
    made.budget._tiers["small"] = MostOfTier(0, 64, 9.0)
    made.limit(money_per_month=10.0)

    async def scene() -> None:
        record = RequestRecord("req_1", principal=Principal("ann"))
        await made.budget.answer(Ask("auto", (("user", "one two"),), Sampling()), record, ["auto"], ["quote"])
        assert record.reserved is not None
        most = record.reserved.hold.amount.micro
        record.prompt_tokens, record.completion_tokens, record.tier = 2, 64, "small"
        made.budget.settle(record)
        (row,) = made.budget.wallet._rows.values()
        assert (row.tier, row.micro) == ("small", most)

    asyncio.run(scene())


def test_refusals_and_headers_are_openai_s() -> None:
    assert (duration(0.2), duration(60), duration(361)) == ("1s", "1m0s", "6m1s")
    assert headers(Standing()) == {}
    assert headers(Standing(tokens_limit=10, tokens_left=-3, tokens_reset_s=64.2)) == {
        "x-ratelimit-limit-tokens": "10", "x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "1m5s",
    }  # fmt: skip
    gone = refused(Refusal("money_per_month", True, 3600, gone=True))
    assert (gone.status, gone.extras["code"], gone.headers["x-should-retry"]) == (429, "insufficient_quota", "false")
    assert "tenant" in gone.message
    never = refused(Refusal("tokens_per_minute", False, 60, never=True, least=3_700, most=4_100, whole=2_000))
    assert (never.extras["code"], never.headers) == ("rate_limit_exceeded", {"x-should-retry": "false"})
    assert "up to 4,100, and with the shortest answer 3,700" in never.message
    assert "limit of this key (tokens a minute) is 2,000" in never.message
    poor = refused(
        Refusal("money_per_month", True, 60, gone=True, never=True, least=1_500_000, most=1_500_000, whole=50_000)
    )
    assert (poor.extras["code"], poor.headers) == ("insufficient_quota", {"x-should-retry": "false"})
    assert "at least 1.5, and the limit of this tenant (money a month) is 0.05" in poor.message
    assert "used up" not in poor.message
    busy = refused(Refusal("tokens_per_day", False, 1.0, gone=False))
    assert (busy.extras["code"], busy.headers) == ("rate_limit_exceeded", {"retry-after": "1"})


def test_feedback_counts_as_a_request(place: Path) -> None:
    made = Set(place, **desks())
    made.limit(requests_per_minute=2)
    with made.service.client() as client:
        said = [client.post("/v1/feedback", json={"answer_id": "ans_main", "rating": "up"}) for _ in range(3)]
    assert [reply.status_code for reply in said] == [200, 200, 429]
    assert made.booked() == (2, 0, 0)
