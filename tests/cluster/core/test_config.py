"""Configuration: typed, documented, refused with a place when wrong; every preset and every override form parses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cluster.core.config import PlinthConfig, configured, load_config, settings
from cluster.core.errors import UsageError
from cluster.core.presets import PRESETS, preset
from cluster.core.sections.scaling import GatewayReplicas, Replicas


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_presets_survive_a_round_trip(name: str, tmp_path: Path) -> None:
    config = preset(name)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config.model_dump()))
    assert load_config(path) == config


def test_overrides_are_typed() -> None:
    config = preset("laptop", ["serve.guard_replicas=3", "data.source=/srv/notes", "cluster.allow_other_ray=true"])
    assert config.serve.guard_replicas == Replicas(min=3, max=3)
    assert config.data.source == "/srv/notes"
    assert config.cluster.allow_other_ray is True


def test_replicas_are_a_number_or_two() -> None:
    assert preset("laptop", ["serve.gateway_replicas=3"]).serve.gateway_replicas == GatewayReplicas(min=3, max=3)
    assert preset("laptop", ["serve.gateway_replicas.max=3"]).serve.gateway_replicas == GatewayReplicas(min=1, max=3)
    written = {**PlinthConfig().model_dump(), "serve": {"gateway_replicas": 2}}  # as earlier versions wrote it
    assert PlinthConfig.model_validate(written).serve.gateway_replicas.max == 2
    shown = {path: meaning for path, _, meaning in settings(PlinthConfig())}
    assert "Most replicas under load" in shown["serve.retriever_replicas.max"]
    assert "Texts under way" in shown["serve.retriever_replicas.target"]
    assert shown["serve.scaling.down_after_s"]


def test_answers_are_kept_where_many_ask() -> None:
    assert {name: preset(name).serve.cache.on for name in PRESETS} == {"laptop": False, "node": True, "cluster": True}
    cache = preset("laptop", ["serve.cache.on=true", "serve.cache.mb=8"]).serve.cache
    assert (cache.on, cache.mb) == (True, 8)


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("serve", "section.field=value"),
        ("serve=1", "section.field=value"),
        ("nope.x=1", "no section 'nope'"),
        ("serve.nope=1", "no field 'nope'"),
        ("serve.guard_replicas=0", "serve.guard_replicas"),
        ("serve.guard_replicas=many", "serve.guard_replicas: .*write a number, or min and max"),
        ("serve.guard_replicas=true", "write a number, or min and max"),
        ("serve.guard_replicas.max=1", "max=1 is below min=2"),
        ("serve.scaling.down_after_s=0", "serve.scaling.down_after_s"),
        ("cluster.host=example.org", "cluster.host"),
    ],
)
def test_wrong_overrides_name_the_field(override: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        configured(PlinthConfig(), [override])


def test_unknown_keys_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"serve": {"qoute_replicas": 1}}))
    with pytest.raises(UsageError, match="qoute_replicas"):
        load_config(path)


def test_what_an_earlier_version_wrote_down_says_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    values = PlinthConfig().model_dump()
    path.write_text(json.dumps({**values, "serve": {**values["serve"], "quote_replicas": 1}}))
    with pytest.raises(UsageError, match=r"earlier version.*serve\.quote_replicas.*plinth down.*plinth up"):
        load_config(path)


def test_every_field_is_documented() -> None:
    rows = list(settings(PlinthConfig()))
    assert {"serve.tiers.quote.engine", "serve.model_defaults.engine", "serve.tiers", "data.source"} <= {
        r[0] for r in rows
    }
    assert [path for path, _, meaning in rows if not meaning] == []
