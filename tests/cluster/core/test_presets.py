"""The shipped configurations: which tiers they have, and when those are deployed."""

from __future__ import annotations

import pytest

from actors.registry.metadata import check_tier_name
from cluster.core.errors import UsageError
from cluster.core.presets import PRESETS, preset
from cluster.core.sections.tiers import names_taken
from serve_apps.replicas.options import graph_options
from serve_apps.scaling.room import check_room


def deployed(name: str, *models: str) -> list[str]:
    return [tier.name for tier in preset(name).serve.with_registered(models)]


def test_larger_tiers_are_configured_and_wait_for_a_model() -> None:
    assert deployed("laptop", "small") == ["quote", "small"]
    for name in ("node", "cluster"):
        assert deployed(name, "small") == ["quote", "small"]
        assert deployed(name, "small", "medium") == ["quote", "medium", "small"]
        assert deployed(name, "large", "medium") == ["quote", "medium", "large"]
        serve = preset(name).serve
        medium, large = (serve.with_registered([size])[1] for size in ("medium", "large"))
        assert medium.threads < large.threads
        assert 0 < medium.price < large.price
        assert (medium.engine, medium.max_replicas) == ("openvino", 2)


@pytest.mark.parametrize("name", PRESETS)
def test_a_model_may_be_added_under_the_name_of_a_larger_tier(name: str) -> None:
    for tier in ("medium", "large"):
        check_tier_name(tier, names_taken(preset(name).serve.tiers))


def test_a_tier_of_another_name_may_be_optional_too() -> None:
    serve = preset("laptop", ["serve.tiers.best.model=qwen@champion", "serve.tiers.best.optional=true"]).serve
    assert [tier.name for tier in serve.with_registered([])] == ["quote"]
    assert [tier.name for tier in serve.with_registered(["qwen"])] == ["quote", "best", "qwen"]
    with pytest.raises(UsageError, match="optional is for"):
        preset("laptop", ["serve.tiers.quote.optional=true"])


def test_a_large_tier_that_no_node_can_hold_is_refused_with_the_numbers() -> None:
    nodes = [{"node:__internal_head__": 1.0}, {"CPU": 8.0}, {"CPU": 8.0, "GPU": 1.0}, {"CPU": 96.0, "GPU": 8.0}]
    config = preset("cluster", ['serve.tiers.large.resources={"CPU": 4, "GPU": 16}'])
    check_room(graph_options(config, config.serve.with_registered(["medium"])), nodes, all_there=False)
    with pytest.raises(UsageError, match=r"tier-large: one replica reserves 4 CPU and 16 GPU, .*at most 8 GPU"):
        check_room(graph_options(config, config.serve.with_registered(["large"])), nodes, all_there=False)
    fits = preset("cluster", ['serve.tiers.large.resources={"CPU": 4, "GPU": 8}'])
    check_room(graph_options(fits, fits.serve.with_registered(["large"])), nodes, all_there=False)
