"""A tier is an entry of the configuration: a second quote tier, with answer settings and replicas of its own.

The real classes answer, over real passages and without Serve between them.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cluster.core.config import PlinthConfig, configured
from cluster.core.errors import EnvironmentFaultError, UsageError
from cluster.core.telemetry import COMPONENTS
from serve_apps.replicas.options import tier_options
from serve_apps.replicas.quote import QuoteReplica
from tests.fakes import FixedRetriever, LocalTier
from tests.serve_apps.replicas.test_model import FOUND as HALF
from tests.serve_apps.service import Service

FOUND = replace(HALF, features={**HALF.features, "top_language": 0.0})  # nothing of it is about a language itself
SHORT = ["serve.tiers.quote-short.kind=quote", 'serve.tiers.quote-short.answer={"max_citations":1}']

ELSEWHERE = ["serve.tiers.gpt.engine=openai", "serve.tiers.gpt.url=https://a.b/v1", "serve.tiers.gpt.model=big"]


def served(config: PlinthConfig) -> Service:
    """The HTTP application with the tiers of ``config``, all of kind quote, as ``deploy`` makes them."""
    tiers = {tier.name: LocalTier(QuoteReplica(config, tier)) for tier in config.serve.tiers}
    quote = tiers.pop("quote")
    return Service(tier=quote, models=tiers, retriever=FixedRetriever(found=FOUND))


def ask(service: Service, model: str) -> dict[str, Any]:
    body = {"model": model, "messages": [{"role": "user", "content": FOUND.question}]}
    reply = service.client().post("/v1/chat/completions", json=body)
    assert reply.status_code == 200, reply.text
    answer: dict[str, Any] = reply.json()
    return answer


def test_another_tier_is_served_beside_the_first_and_routed_by_name() -> None:
    service = served(configured(PlinthConfig(), SHORT))
    first, second = ask(service, "quote"), ask(service, "quote-short")
    assert (first["plinth"]["tier"], second["plinth"]["tier"]) == ("quote", "quote-short")
    assert first["plinth"]["route"]["reason"] == second["plinth"]["route"]["reason"] == "requested"
    assert [len(answer["plinth"]["citations"]) for answer in (first, second)] == [2, 1]
    assert first["plinth"]["model_version"] != second["plinth"]["model_version"], "settings are part of the version"
    listed = [card["id"] for card in service.client().get("/v1/models").json()["data"]]
    assert {"quote", "quote-short"} < set(listed)


def test_no_gate_has_seen_it_so_auto_leaves_it_alone() -> None:
    assert ask(served(configured(PlinthConfig(), SHORT)), "auto")["plinth"]["tier"] == "quote"


def test_the_fallback_may_have_any_name() -> None:
    entries = '[{"name":"words","kind":"quote","fallback":true},{"name":"quote","kind":"quote"}]'
    config = configured(PlinthConfig(), [f"serve.tiers={entries}"])
    assert ask(served(config), "auto")["plinth"]["tier"] == "words"


def test_each_tier_has_replicas_and_resources_of_its_own() -> None:
    config = configured(
        PlinthConfig(),
        [
            *SHORT,
            "serve.tiers.quote-short.max_replicas=3",
            'serve.tiers.quote-short.resources={"GPU":0.5,"fast":1}',
            "serve.replica_cpus=0.5",
        ],
    )
    quote, short = (tier_options(config.serve, tier) for tier in config.serve.tiers)
    assert (quote["name"], quote["num_replicas"], quote["ray_actor_options"]) == ("tier-quote", 1, {"num_cpus": 0.5})
    assert "autoscaling_config" not in quote
    assert (short["name"], short["autoscaling_config"]["min_replicas"]) == ("tier-quote-short", 1)
    assert short["autoscaling_config"]["max_replicas"] == 3
    assert short["ray_actor_options"] == {"num_cpus": 1.0, "num_gpus": 0.5, "resources": {"fast": 1}}


def test_a_standby_is_one_replica_more_than_asked_for() -> None:
    config = configured(PlinthConfig(), ["serve.tiers.quote.standby=1"])
    assert tier_options(config.serve, config.serve.tiers[0])["num_replicas"] == 2
    scaled = configured(config, ["serve.tiers.quote.max_replicas=3"])
    bounds = tier_options(scaled.serve, scaled.serve.tiers[0])["autoscaling_config"]
    assert (bounds["min_replicas"], bounds["max_replicas"]) == (2, 4)
    with pytest.raises(UsageError, match="does not sleep"):
        configured(PlinthConfig(), ["serve.tiers.small.min_replicas=0", "serve.tiers.small.standby=1"])


@pytest.mark.process
def test_the_graph_holds_a_deployment_for_each_tier() -> None:
    from ray.serve._private.build_app import build_app as flatten

    from serve_apps import deploy
    from serve_apps.deploy import build_app

    config = configured(PlinthConfig(), [*SHORT, *ELSEWHERE, "serve.tiers.quote-short.max_replicas=3"])
    built = flatten(build_app(config, ["small"]), name="plinth", make_deployment_handle=lambda *_: None)
    scaling = {d.name: d._deployment_config.autoscaling_config for d in built.deployments}
    assert {"tier-quote", "tier-quote-short", "tier-small"} < set(scaling)
    assert scaling["tier-quote-short"].max_replicas == 3
    assert scaling["tier-quote"] is None
    classes = {d.name: d._replica_config.deployment_def_name for d in built.deployments}
    assert (classes["tier-gpt"], classes["tier-small"]) == ("ExternalTier", "ModelTier")
    started = re.findall(r'report_start\("(\w+)"', Path(deploy.__file__).read_text())
    assert set(started) <= set(COMPONENTS), "the log takes no other names: such a replica would not stand"
    assert len(started) == 6
    with pytest.raises(UsageError, match=re.escape("no guard 'nobody'; there are characters, personal_data")):
        build_app(configured(config, ['serve.guards=["nobody"]']))


def test_a_deployment_that_does_not_stand_is_a_fault_that_says_where_to_look(monkeypatch: pytest.MonkeyPatch) -> None:
    from serve_apps import deploy

    def fails(*_: Any, **__: Any) -> None:
        raise RuntimeError("Deploying application plinth failed: Failed to update the deployments ['tier-gpt'].")

    monkeypatch.setattr(deploy.serve, "start", lambda **_: None)
    monkeypatch.setattr(deploy.serve, "run", fails)
    with pytest.raises(EnvironmentFaultError, match=r"tier-gpt.*plinth status"):
        deploy.run(configured(PlinthConfig(), ELSEWHERE), [])
