"""plinth keys: as somebody types it, over the real book."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from actors.audit.audit_log import AuditLog
from actors.audit.reading import records
from actors.ledger.key_book import KeyBook
from cluster.cli.main import main
from cluster.core.home import Home
from cluster.core.storage import Store
from cluster.loopback import bearer
from tests.data_jobs.artefacts import dataset, document, index


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setenv("PLINTH_HOME", str(tmp_path))
    monkeypatch.delenv("PLINTH_API_KEY", raising=False)
    return Home(tmp_path)


def said(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> Any:
    assert main([*words, "--json"]) == code
    return json.loads(capsys.readouterr().out)


def test_the_life_of_a_key(capsys: pytest.CaptureFixture[str], home: Home) -> None:
    made = said(
        capsys, "keys", "create", "ann", "--tenant", "finance", "--group", "board, audit", "--scope", "chat,search",
        "--expires", "90d", "--collections", "main", "--requests-per-minute", "30", "--money-per-month", "2.5",
        "--streams", "4",
    )  # fmt: skip
    assert made["key"].startswith("plinth_")
    assert made["expires_at"] - made["created_at"] == 90 * 86400
    (listed,) = said(capsys, "keys", "list")["keys"]
    assert "key" not in listed
    assert (listed["tenant"], listed["groups"], listed["collections"]) == ("finance", ["audit", "board"], ["main"])
    assert (listed["limits"]["requests_per_minute"], listed["limits"]["money_per_month"]) == (30, 2.5)
    assert listed["streams"] == 4
    assert main(["keys", "create", "none", "--streams", "0"]) == 2
    book = KeyBook.of(home)
    fresh = said(capsys, "keys", "rotate", "ann")
    assert not book.recognises(made["key"])
    assert book.recognises(fresh["key"])
    assert said(capsys, "keys", "revoke", listed["key_id"])["name"] == "ann"
    assert not book.recognises(fresh["key"])
    assert said(capsys, "keys", "list")["keys"] == []
    assert [one["state"] for one in said(capsys, "keys", "list", "--all")["keys"]] == ["revoked"]


def test_limits_of_a_tenant_are_set_shown_and_taken_away(capsys: pytest.CaptureFixture[str]) -> None:
    assert said(capsys, "keys", "limits")["limits"] == {}
    set_to = said(capsys, "keys", "limits", "finance", "--tokens-per-day", "1000", "--money-per-month", "2.5")
    assert set_to["limits"]["finance"]["tokens_per_day"] == 1000
    assert main(["keys", "limits"]) == 0
    assert "1,000" in capsys.readouterr().out
    assert said(capsys, "keys", "limits", "finance", "--none")["limits"] == {}
    assert main(["keys", "limits", "--tokens-per-day", "1"]) == 2


def test_usage_is_by_key_and_tenant(capsys: pytest.CaptureFixture[str], home: Home) -> None:
    from actors.ledger.database import USAGE, Database, add_to

    made = said(capsys, "keys", "create", "ann", "--tenant", "finance")
    with Database.of(home.root).writing() as connection:
        row = {"day": "2026-11-05", "key_id": made["key_id"], "tenant": "finance", "tier": "quote"}
        counts = {"requests": 2, "prompt_tokens": 30, "completion_tokens": 40, "micro": 1_500_000}
        add_to(connection, USAGE, {**row, **counts}, tuple(counts))
    since = ["--since", "2026-11-01", "--until", "2026-11-30"]
    (used,) = said(capsys, "keys", "usage", "ann", *since)["usage"]
    assert (used["name"], used["requests"], used["money"]) == ("ann", 2, 1.5)
    assert said(capsys, "keys", "usage", "--tenant", "legal", *since)["usage"] == []
    assert main(["keys", "usage", *since]) == 0
    assert "finance" in capsys.readouterr().out
    assert main(["keys", "usage", "bob"]) == 3
    assert main(["keys", "usage", "--since", "soon"]) == 2


@pytest.mark.parametrize(
    ("words", "code"),
    [(["create", "Ann"], 2), (["create", "ann", "--scope", "root"], 2), (["create", "ann", "--expires", "soon"], 2),
     (["create", "ann", "--tokens-per-day", "-1"], 2), (["revoke", "bob"], 3), (["rotate", "bob"], 3)],
)  # fmt: skip
def test_what_is_wrong_is_said(capsys: pytest.CaptureFixture[str], words: list[str], code: int) -> None:
    assert main(["keys", *words]) == code
    assert KeyBook.of(Home.from_env()).entries() == []


def test_tables_show_no_secret(capsys: pytest.CaptureFixture[str]) -> None:
    made = said(capsys, "keys", "create", "ann")
    assert main(["keys", "list"]) == 0
    shown = capsys.readouterr().out
    assert made["key_id"] in shown
    assert made["key"].split("_", 2)[2] not in shown


def test_this_machines_verbs_send_the_local_key(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    assert bearer() == {}
    home.api_key_path.write_text("plinth_a_b\n")
    assert bearer() == {"Authorization": "Bearer plinth_a_b"}
    monkeypatch.setenv("PLINTH_API_KEY", "plinth_c_d")
    assert bearer() == {"Authorization": "Bearer plinth_c_d"}


def test_a_rotated_local_key_goes_on_working_here(capsys: pytest.CaptureFixture[str], home: Home) -> None:
    from actors.ledger.key_book import local_key

    local_key(KeyBook.of(home), home)
    fresh = said(capsys, "keys", "rotate", "local")
    assert home.api_key() == fresh["key"]


def test_what_is_done_to_keys_is_in_the_audit_log(capsys: pytest.CaptureFixture[str], home: Home) -> None:
    assert main(["keys", "create", "ann", "--tenant", "finance", "--json"]) == 0
    text = json.loads(capsys.readouterr().out)["key"]
    assert main(["keys", "rotate", "ann"]) == 0
    assert main(["keys", "revoke", "ann"]) == 0
    found = [record.payload for record in records(AuditLog.of(home)) if record.payload]
    assert [(one["action"], one["name"], one["tenant"]) for one in found] == [
        ("key_created", "ann", "finance"),
        ("key_rotated", "ann", "finance"),
        ("key_revoked", "ann", "finance"),
    ]
    assert text not in json.dumps(found)


def test_a_tenants_limits_and_what_a_key_is_held_to_are_in_the_audit_log(home: Home) -> None:
    assert main(["keys", "create", "bob", "--collections", "contracts", "--tokens-per-day", "9"]) == 0
    assert main(["keys", "limits", "legal", "--money-per-month", "50"]) == 0
    key, limits = [record.payload for record in records(AuditLog.of(home)) if record.payload]
    assert (key["collections"], key["limits"]) == (["contracts"], {"tokens_per_day": 9})
    assert (limits["action"], limits["tenant"], limits["limits"]) == ("limits_set", "legal", {"money_per_month": 50})


def test_limits_groups_and_overlap_of_a_key_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["keys", "create", "ann"]) == 0
    assert main(["keys", "list"]) == 0
    assert not {"limits", "groups", "old secret"} & set(capsys.readouterr().out.split())
    assert main(["keys", "create", "bob", "--group", "board", "--tokens-per-day", "200000"]) == 0
    assert "200,000 tokens / day" in capsys.readouterr().out
    assert main(["keys", "list"]) == 0
    listed = " ".join(capsys.readouterr().out.split())
    assert "board" in listed
    assert "200,000" in listed
    assert main(["keys", "rotate", "bob", "--overlap", "2h"]) == 0
    assert "works on until" in capsys.readouterr().out


def test_a_collection_that_is_not_there_is_said_and_the_key_made_all_the_same(
    capsys: pytest.CaptureFixture[str], home: Home
) -> None:
    assert main(["keys", "create", "ann", "--collections", "contrcats", "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["collections"] == ["contrcats"]
    assert "there is no collection 'contrcats' now; there are none yet" in err
    store = Store(home.store_uri)
    made = index(store, dataset(store, [document("a.md")], "docs"), ["a.md"])
    assert main(["keys", "create", "bob", "--collections", f"{made.name},other"]) == 0
    err = capsys.readouterr().err
    assert err == f"plinth: there is no collection 'other' now; there are {made.name}\n"
