"""Tiers as configuration: set by name, added by name, refused with a reason when wrong."""

from __future__ import annotations

import json

import pytest

from cluster.core.config import PlinthConfig, configured, parsed
from cluster.core.errors import UsageError
from cluster.core.sections.answer import AnswerSection
from cluster.core.sections.tiers import QUOTE, names_taken


def test_a_tier_is_set_and_added_by_name() -> None:
    config = configured(
        PlinthConfig(),
        [
            "serve.tiers.quote.max_replicas=2",
            "serve.model_defaults.threads=1",
            "serve.tiers.llama-3.2.engine=transformers",
        ],
    )
    quote, llama = config.serve.tiers
    assert quote == QUOTE.model_copy(update={"max_replicas": 2})
    assert (llama.name, llama.kind, llama.engine) == ("llama-3.2", "model", "transformers")
    assert llama.threads == 1, "what an entry leaves out it takes from model_defaults"
    assert config.serve.tier("small").threads == 1, "so does a registered model without an entry"
    assert [tier.name for tier in config.serve.with_registered(["llama-3.2", "small"])] == [
        "quote",
        "llama-3.2",
        "small",
    ]


def test_tiers_are_set_whole_as_json_and_survive_a_round_trip() -> None:
    tiers = [{"name": "words", "kind": "quote", "fallback": True, "answer": {"max_words": 20}}, {"name": "small"}]
    config = configured(PlinthConfig(), [f"serve.tiers={json.dumps(tiers)}"])
    words, small = config.serve.tiers
    assert words.answers(AnswerSection()) == AnswerSection(max_words=20)
    assert small.answers(AnswerSection(max_names=1)) == AnswerSection(max_names=1)
    assert parsed(json.loads(json.dumps(config.model_dump()))) == config


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("serve.tiers.quote=2", "serve.tiers|tiers.NAME.SETTING"),
        ("serve.tiers.quote.nope=2", "nope"),
        ("serve.model_defaults.nope=2", "nope"),
        ("serve.model_defaults.a.b=2", "model_defaults.SETTING"),
        ("serve.embed_threads.x=2", "there is no such setting"),
        ("serve.guard_replicas.x=2", "serve.guard_replicas.x"),
        ("serve.tiers.quote.min_replicas=3", "max_replicas=1 is below min_replicas=3"),
        ("serve.tiers.small.fallback=true", "only a tier of kind quote"),
        ("serve.tiers.quote.model=small", "has no model"),
        ('serve.tiers.quote.answer={"max_wrods":9}', "max_wrods"),
        ("serve.tiers.auto.kind=quote", "clients know it as something else"),
        ("serve.tiers.UPPER.kind=quote", "serve.tiers"),
        ('serve.tiers=[{"name":"a"},{"name":"a"}]', "twice"),
        (
            'serve.tiers=[{"name":"a","kind":"quote","fallback":true},{"name":"b","kind":"quote","fallback":true}]',
            "one tier at most",
        ),
    ],
)
def test_wrong_tiers_are_refused(override: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        configured(PlinthConfig(), [override])


def test_names_that_a_model_may_not_have_follow_from_the_tiers() -> None:
    config = configured(PlinthConfig(), ["serve.tiers.fast.model=small", "serve.tiers.small.threads=1"])
    taken = names_taken(config.serve.tiers)
    assert {"auto", "quote", "fast", "all-minilm-l6-v2", "embedder"} == set(taken)
