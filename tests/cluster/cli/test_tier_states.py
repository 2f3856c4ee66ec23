"""What `plinth status` says of tiers: who answers, and why another one does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster.cli.lifecycle import _print_status
from cluster.cli.tier_states import last_loads, tier_states
from cluster.core.config import PlinthConfig, configured
from cluster.core.home import Home
from cluster.core.telemetry import log_event

CONFIG = configured(
    PlinthConfig(),
    ["serve.tiers.fast.model=small", "serve.tiers.gpt.engine=openai", "serve.tiers.gpt.url=https://a.b/v1",
     "serve.tiers.gpt.model=big", "serve.tiers.tiny.engine=transformers"],
)  # fmt: skip
TIERS = CONFIG.serve.with_registered(["small"])
CARDS = {"quote": {"version": "q1"}, "small": {"version": "m1"}, "gpt": {"external": True, "enabled": True}}


def test_each_tier_says_what_it_does_and_the_others_go_on() -> None:
    loads = {
        "models/small": {"event": "refused", "version": "m2", "error": "the weights are damaged"},
        "models/tiny": {"event": "refused", "version": "t1", "error": "it brings code of its own"},
        "tiers/gpt": {"event": "live", "version": "big", "error": ""},
    }
    found = {row["name"]: row for row in tier_states(TIERS, CARDS, loads, {"tier-fast": "replica died 3 times"})}
    assert {name: row["state"] for name, row in found.items()} == {
        "quote": "serves", "small": "serves", "gpt": "serves", "fast": "down", "tiny": "down",
    }  # fmt: skip
    assert found["tiny"]["why"] == "t1 refused: it brings code of its own"
    assert found["fast"]["why"] == "replica died 3 times"
    assert (found["small"]["version"], found["small"]["why"]) == ("m1", "m2 refused: the weights are damaged")
    assert (found["gpt"]["runs"], found["gpt"]["external"]) == ("big at a.b", True)
    assert found["quote"]["why"] == ""


def test_what_waits_and_what_is_off() -> None:
    cards = {**CARDS, "gpt": {"external": True, "enabled": False}}
    loads = {"tiers/gpt": {"event": "refused", "version": "big", "error": "switched off: contract ended"}}
    found = {row["name"]: row for row in tier_states(TIERS, cards, loads, {})}
    assert (found["gpt"]["state"], found["gpt"]["why"]) == ("off", "switched off: contract ended")
    assert (found["tiny"]["state"], "no version of tiny" in found["tiny"]["why"]) == ("waits", True)
    (quote,) = (row for row in tier_states(TIERS, {}, {}, {}) if row["name"] == "quote")
    assert (quote["state"], quote["why"]) == ("waits", "its replicas are starting")
    loads = {"tiers/gpt": {"event": "refused", "version": "big", "error": "others may read the key file"}}
    (gpt,) = (row for row in tier_states(TIERS, cards, loads, {}) if row["name"] == "gpt")
    assert (gpt["state"], gpt["why"]) == ("down", "others may read the key file")
    loads = {"models/tiny": {"event": "live", "version": "t1", "error": ""}}
    assert {row["name"]: row for row in tier_states(TIERS, CARDS, loads, {})}["tiny"]["why"]


def test_the_last_word_of_each_artefact_counts(home: Path) -> None:
    log_event("model", "refused", artefact="models/a", version="1", error="bad")
    log_event("model", "live", artefact="models/a", version="2")
    log_event("model", "refused", artefact="models/b", version="1", error="worse")
    log_event("model", "replica_started", code="x")
    log = Home(home).logs / "model.jsonl"
    with log.open("a") as handle:
        handle.write('{"event": "live", "artefact": "models/b"')
    assert last_loads(log, "2020") == {
        "models/a": {"event": "live", "version": "2", "error": ""},
        "models/b": {"event": "refused", "version": "1", "error": "worse"},
    }
    assert last_loads(log, "2999") == {}
    assert last_loads(log.with_name("none"), "2020") == {}


def test_the_table_shows_it(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from cluster.cli import output

    monkeypatch.setattr(output.console, "width", 160)
    rows = tier_states(TIERS, CARDS, {"models/tiny": {"event": "refused", "version": "t1", "error": "[no] way"}}, {})
    jobs = {"running": [], "finished": []}
    _print_status({"service": "ready", "tiers": rows, "index": None, "registry": {}, "home": "/h", "store": "/s",
                   "disk": {}, "jobs": jobs})  # fmt: skip
    said = capsys.readouterr().out
    assert "t1 refused: [no] way" in said
    assert "big at a.b" in said
