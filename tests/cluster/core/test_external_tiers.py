"""Tiers of other servers as configuration: what is wrong is refused, and nothing secret stands in it."""

from __future__ import annotations

from typing import Any

import pytest

from cluster.core.config import PlinthConfig, configured
from cluster.core.errors import UsageError
from cluster.core.sections.tiers import names_taken, on_loopback
from serve_apps.replicas.options import tier_options

GOOD = {"engine": "openai", "url": "https://api.example.com/v1/", "model": "org/big@2026"}


def config_with(*more: str, **settings: Any) -> PlinthConfig:
    entries = [f"serve.tiers.other.{name}={value}" for name, value in {**GOOD, **settings}.items()]
    return configured(PlinthConfig(), [*entries, *more])


def test_an_entry_says_where_and_what() -> None:
    serve = config_with().serve
    tier = serve.tier("other")
    assert (tier.external, tier.url, tier.host) == (True, "https://api.example.com/v1", "api.example.com")
    assert not serve.tier("small").external
    assert "other" in names_taken(serve.tiers), "no registered model may take its place"
    assert "same" in names_taken(config_with("serve.tiers.same.engine=openai", "serve.tiers.same.model=same",
                                             "serve.tiers.same.url=https://a.b/v1").serve.tiers)  # fmt: skip


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:8000/v1", "http://localhost:1/v1", "http://[::1]:1/v1", "http://127.8.8.8/v1"]
)
def test_http_on_this_machine(url: str) -> None:
    assert config_with(url=url).serve.tier("other").url == url
    assert on_loopback(url)


@pytest.mark.parametrize(
    "url",
    ["http://10.0.0.1/v1", "http://127.0.0.1.example.com/v1", "http://localhost.example.com/v1", "http://2130706433/v1",
     "http://[::ffff:10.0.0.1]/v1", "http://0.0.0.0/v1"],
)  # fmt: skip
def test_http_on_another_machine_wants_a_setting_of_its_own(url: str) -> None:
    with pytest.raises(UsageError, match="plain_http"):
        config_with(url=url)
    assert config_with(url=url, plain_http="true").serve.tier("other").url == url


@pytest.mark.parametrize(
    "url",
    ["ftp://a.b/v1", "a.b/v1", "https:///v1", "https://me:sk-secret@a.b/v1", "https://a.b/v1?key=sk-secret",
     "https://a.b/v1#sk-secret", "https://a.b:0/v1", "https://a.b:99999/v1", "https://a b/v1", "https://a.b\\v1",
     "https://ä.b/v1", "https://a.b/v1\n"],
)  # fmt: skip
def test_addresses_that_are_refused_and_never_quoted(url: str) -> None:
    with pytest.raises(UsageError, match="url") as caught:
        config_with(url=url)
    assert "sk-secret" not in caught.value.message


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"model": ""}, "wants url and model"),
        ({"url": ""}, "wants url and model"),
        ({"min_replicas": 0}, "min_replicas is 1"),
        ({"engine": "openvino"}, "are for engine=openai"),
        ({"kind": "quote", "model": ""}, "are for engine=openai"),
        ({"takes": '["logit_bias"]'}, "takes"),
        ({"limit_name": "max_words"}, "limit_name"),
        ({"connect_s": 0}, "connect_s"),
    ],
)
def test_wrong_entries_are_refused(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        config_with(**settings)


def test_what_answers_instead_is_there_and_answers_here() -> None:
    assert config_with(instead="quote").serve.with_registered([])[1].instead == "quote"
    config = config_with(instead="small")
    assert [tier.name for tier in config.serve.with_registered(["small"])] == ["quote", "other", "small"]
    with pytest.raises(UsageError, match=r"serve.tiers.other.instead: there is no tier 'small'"):
        config.serve.with_registered([])
    for outside in ("other", "third"):
        with pytest.raises(UsageError, match="names an external tier as instead"):
            config_with("serve.tiers.third.engine=openai", "serve.tiers.third.model=m",
                        "serve.tiers.third.url=https://a.b/v1", instead=outside)  # fmt: skip


def test_registered_models_do_not_run_elsewhere() -> None:
    with pytest.raises(UsageError, match="model_defaults"):
        configured(PlinthConfig(), ["serve.model_defaults.engine=openai"])


def test_a_replica_that_only_listens_reserves_one_thread() -> None:
    config = config_with("serve.replica_cpus=1", "serve.tiers.other.max_replicas=2", threads=4)
    options = tier_options(config.serve, config.serve.tier("other"))
    assert options["ray_actor_options"]["num_cpus"] == 1
    assert "tokens" not in options["autoscaling_config"]["policy"]["policy_kwargs"]["targets"]
