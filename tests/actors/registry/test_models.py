"""The registry: required metadata, immutable versions, aliases that survive a kill, a history nobody rewrites."""

from __future__ import annotations

import threading
import uuid
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from actors.registry import audits
from actors.registry.metadata import REQUIRED
from actors.registry.models import Registry
from cluster.core.errors import BadInputError, IntegrityError, PolicyRefusedError, UsageError
from cluster.core.storage import Store
from tests.actors.published import REFUSED, Gate, metadata, publish


@pytest.fixture(params=["local", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return Store(str(tmp_path / "store") if request.param == "local" else f"memory://{uuid.uuid4().hex}")


@pytest.fixture
def local(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "store"))


def registered(store: Store, *bodies: str, name: str = "small") -> list[str]:
    return [Registry(store).register(name, publish(store, name, body).version).version for body in bodies]


def test_the_life_of_a_model(store: Store) -> None:
    registry = Registry(store, actor="ada@home")
    assert (registry.names(), registry.served("small")) == ([], None)
    one, two = registered(store, "one", "two")
    served = registry.served("small")
    assert served is not None
    assert (served.version, served.champion) == (two, False), "the newest candidate is reachable, but not for auto"

    registry.promote("small", one, Gate())
    served = registry.served("small")
    assert served is not None
    assert (served.version, served.champion, served.manifest.version) == (one, True, one)
    registry.refuse("small", two, REFUSED)
    assert [v.verdict for v in registry.versions("small")] == ["passed", "refused"]
    registry.promote("small", two, Gate(reason="better now"))
    assert [v.aliases for v in registry.versions("small")] == [("previous",), ("champion", "candidate")]

    registry.roll_back("small", "too slow")
    assert [v.aliases for v in registry.versions("small")] == [("champion",), ("candidate",)]
    with pytest.raises(BadInputError, match="no earlier champion"):
        registry.roll_back("small", "again")
    assert [(e.event, e.version) for e in registry.history("small")] == [
        ("registered", one), ("candidate", one), ("registered", two), ("candidate", two),
        ("gate_passed", one), ("promoted", one), ("gate_refused", two), ("gate_passed", two), ("promoted", two),
        ("rolled_back", two),
    ]  # fmt: skip
    last = registry.history("small")[-1]
    assert (last.actor, last.reason, last.champion) == ("ada@home", "too slow", one)
    assert registry.names() == ["small"]


@pytest.mark.parametrize("field", REQUIRED)
def test_a_missing_field_is_named_and_nothing_is_registered(local: Store, field: str) -> None:
    described = {key: value for key, value in metadata("small").items() if key != field}
    manifest = publish(local, "small", "one", described)
    with pytest.raises(UsageError, match=f"'{field}'"):
        Registry(local).register("small", manifest.version)
    assert (Registry(local).names(), Registry(local).history("small")) == ([], [])


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("format", "pickle"), ("tier", "other"), ("context_tokens", 0), ("context_tokens", True), ("parameters", "1M"),
        ("tokenizer_sha256", "abc"), ("license", " "), ("knowledge_cutoff", "soon"), ("provenance", {}),
        ("provenance", {"checkpoint": "small", "tokenizer": "a@b", "dataset": "c@d"}), ("engine", "guessed"),
        ("notes", "x" * 70_000),
    ],
)  # fmt: skip
def test_wrong_metadata_is_refused(local: Store, field: str, value: Any) -> None:
    manifest = publish(local, "small", "one", metadata("small", **{field: value}))
    with pytest.raises(UsageError, match="small"):
        Registry(local).register("small", manifest.version)


@pytest.mark.parametrize("name", ["auto", "quote", "embedder", "all-minilm-l6-v2"])
def test_reserved_names(local: Store, name: str) -> None:
    with pytest.raises(PolicyRefusedError, match="reserved"):
        Registry(local).register(name, publish(local, name, "one").version)


def test_other_bytes_are_another_version_and_a_retag_is_refused(store: Store) -> None:
    registry = Registry(store)
    one, two = registered(store, "one", "two")
    assert one != two
    before = len(registry.history("small"))
    registry.register("small", two, metadata("small"))
    assert len(registry.history("small")) == before, "registering again is no event"
    with pytest.raises(PolicyRefusedError, match="license") as refused:
        registry.register("small", one, metadata("small", license="MIT"))
    assert "immutable" in refused.value.message
    relicensed = publish(store, "small", "one", metadata("small", license="MIT")).version
    assert relicensed not in (one, two)


def test_damaged_or_missing_versions_are_refused(local: Store) -> None:
    manifest = publish(local, "small", "one")
    (Path(local.artefact(manifest)) / "model.safetensors").write_text("onE")
    with pytest.raises(IntegrityError, match="does not match"):
        Registry(local).register("small", manifest.version)
    with pytest.raises(BadInputError):
        Registry(local).register("small", "0" * 12)
    with pytest.raises(BadInputError, match="not registered"):
        Registry(local).promote("small", manifest.version, Gate())


def test_only_the_gate_promotes(store: Store) -> None:
    registry = Registry(store)
    (one,) = registered(store, "one")
    with pytest.raises(PolicyRefusedError, match="does not beat"):
        registry.promote("small", one, REFUSED)
    with pytest.raises(PolicyRefusedError, match="cannot be recorded"):
        registry.refuse("small", one, Gate())
    served = registry.served("small")
    assert served is not None
    assert not served.champion


def test_a_gate_report_is_about_one_version(local: Store) -> None:
    registry = Registry(local)
    one, two = registered(local, "one", "two")
    staging = local.staging("gate")
    local.write(f"{staging}/report.json", b"{}")
    report = local.publish("gates", "small", staging, run_key="gate", inputs={"model": f"small@{one}"})
    reference = f"small@{report.version}"
    with pytest.raises(PolicyRefusedError, match=one):
        registry.promote("small", two, Gate(), reference)
    registry.promote("small", one, Gate(), reference)
    gate = registry.version("small", one).gate
    assert gate is not None
    assert gate.gate["report"] == reference
    assert gate.gate["checks"][0]["name"] == "difference"


def test_a_champion_that_fails_a_later_gate_stops_answering_auto(store: Store) -> None:
    registry = Registry(store)
    one, two = registered(store, "one", "two")
    registry.promote("small", one, Gate())
    registry.promote("small", two, Gate())
    registry.refuse("small", two, REFUSED)
    served = registry.served("small")
    assert served is not None
    assert (served.version, served.champion) == (one, True)
    registry.refuse("small", one, REFUSED)
    served = registry.served("small")
    assert served is not None
    assert (served.version, served.champion) == (two, False), "reachable by name only"


def test_history_tells_who_was_champion_when(local: Store) -> None:
    registry = Registry(local)
    one, two = registered(local, "one", "two")
    registry.promote("small", one, Gate())
    registry.promote("small", two, Gate())
    registry.roll_back("small", "slow")
    moves = [e for e in registry.history("small") if e.event in ("promoted", "rolled_back")]
    assert [registry.champion_at("small", e.at) for e in moves[1:]] == [two, one] or moves[1].at == moves[2].at
    assert registry.champion_at("small", "2020-01-01") == ""
    assert registry.champion_at("small", (datetime.fromisoformat(moves[2].at) + timedelta(1)).isoformat()) == one
    with pytest.raises(UsageError, match="no ISO time"):
        registry.champion_at("small", "yesterday")


def test_a_clock_set_back_reorders_nothing(local: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = Registry(local)
    one, two = registered(local, "one", "two")
    registry.promote("small", one, Gate())
    for module in ("actors.registry.history", "cluster.core.storage"):
        monkeypatch.setattr(f"{module}.utc_now", lambda: "2001-01-01T00:00:00.000+00:00")
    registry.promote("small", two, Gate())
    served = registry.served("small")
    assert served is not None
    assert served.version == two
    times = [e.at for e in registry.history("small")]
    assert times == sorted(times)


class Killed(BaseException):
    """What kill -9 looks like from inside: nothing after it runs."""


class DyingStore(Store):
    """Dies at its n-th write, before or after the bytes are there."""

    def __init__(self, uri: str, at: int, before: bool) -> None:
        super().__init__(uri)
        self.left, self.before = at, before

    def write(self, path: str, data: bytes) -> None:
        self.left -= 1
        if self.left == 0 and self.before:
            raise Killed
        super().write(path, data)
        if self.left == 0:
            raise Killed


@pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
@pytest.mark.parametrize("at", [1, 2, 3, 4])
@pytest.mark.parametrize("next_call", ["promote", "register"])
def test_a_kill_in_a_promotion_is_repaired_by_the_next_call(
    local: Store, at: int, before: bool, next_call: str
) -> None:
    one, two = registered(local, "one", "two")
    registry = Registry(local)
    registry.promote("small", one, Gate())
    with pytest.raises(Killed):  # four writes: two events, two aliases
        Registry(DyingStore(local.uri, at, before)).promote("small", two, Gate())

    served = registry.served("small")
    assert served is not None
    assert (served.version, served.champion) in [(one, True), (two, True)], "never without a champion"
    begun = any(e.event == "promoted" and e.version == two for e in registry.history("small"))
    if next_call == "promote":
        registry.promote("small", two, Gate())
        begun = True
    else:
        registry.register("small", two)
    champion, previous = (two, one) if begun else (one, None)
    assert local.alias("models", "small", "champion") == champion
    assert local.alias("models", "small", "previous") == previous
    assert len([e for e in registry.history("small") if e.version == two and e.event == "promoted"]) == int(begun)


def test_aliases_moved_by_hand_are_left_alone(local: Store) -> None:
    one, two = registered(local, "one", "two")
    registry = Registry(local)
    registry.promote("small", one, Gate())
    local.move_alias("models", "small", "champion", two, "by hand")
    registry.register("small", two)
    assert local.alias("models", "small", "champion") == two


def test_many_writers_lose_no_event(local: Store) -> None:
    versions = registered(local, *[f"body {n}" for n in range(6)])
    threads = [threading.Thread(target=Registry(local).promote, args=("small", v, Gate())) for v in versions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    events = Registry(local).history("small")
    assert [e.seq for e in events] == list(range(1, len(events) + 1))
    promoted = [e for e in events if e.event == "promoted"]
    assert {e.version for e in promoted} == set(versions)
    assert [e.previous for e in promoted] == ["", *[e.version for e in promoted[:-1]]]
    assert local.alias("models", "small", "champion") == promoted[-1].version


def test_versions_are_found_by_alias_and_beginning(local: Store) -> None:
    one, two = registered(local, "one", "two")
    registry = Registry(local)
    registry.promote("small", one, Gate())
    assert registry.version("small").version == one
    assert registry.version("small", "candidate").version == two
    assert registry.version("small", two[:8]).version == two
    with pytest.raises(BadInputError, match="no version 'zzz'"):
        registry.version("small", "zzz")
    with pytest.raises(BadInputError, match="there are small"):
        registry.version("large")


def test_the_card_adds_what_is_known_now(local: Store) -> None:
    (one,) = registered(local, "one")
    registry = Registry(local)
    assert registry.card("small")["state"]["verdict"] == "not judged"
    assert registry.card("small")["state"]["memorization"] == {}
    folder = local.staging("audit")
    local.write(f"{folder}/memorization.json", b"{}")
    audit = local.publish("audits", "small", folder, run_key="audit", counts={"verbatim_train": 0.25})
    audits.record(local, registry.version("small", one).manifest, audit)
    known = registry.card("small")["state"]["memorization"]
    assert known == {"verbatim_train": 0.25, "report": f"small@{audit.version}"}
    registry.promote("small", one, Gate())
    card = registry.card("small", one)
    assert card["intended_use"] == "tests"
    assert card["state"]["aliases"] == ["champion", "candidate"]
    assert card["state"]["gate"]["checks"][0]["value"] == 0.2
    assert [move["event"] for move in card["state"]["moves"]] == ["promoted"]
