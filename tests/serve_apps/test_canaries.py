"""Seeded secrets and a day's work: keys made, questions asked, refused and broken, books, audit log, crashes. No secret
is in any file, metric, reply or on a terminal afterwards but where it is kept.

On a running service, with its command lines and environments: ``tests/live/test_keys.py``. What processes that are
started get to see: ``tests/cluster/cli/test_commands.py`` (head_environment_carries_no_secrets).
"""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from actors.audit.key_ring import KeyRing
from actors.ledger.key_book import KeyBook, local_key
from cluster.cli.main import main
from cluster.core.config import PlinthConfig
from cluster.core.home import Home, write_private
from cluster.core.sections.tiers import TierConfig
from serve_apps.engines.key_file import read_key
from serve_apps.gateway.protocols import TierState
from tests.fakes import ScriptedTier
from tests.serve_apps.service import CHAT, EMBEDDER, QUESTION, eventually
from tests.serve_apps.whole import Whole

# In the environment of whoever starts things, and in a file of theirs.
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "AKIACANARY7Q2W9ZEXAM", "AWS_SECRET_ACCESS_KEY": "canaryAws+8sKq0vY1xWmZ3rT5uJ7nB9dF2gH4",
    "PGPASSWORD": "canary-pg-password-91c", "OPENAI_API_KEY": "sk-canary-openai-0123456789abcdef",
}  # fmt: skip
IN_A_FILE = "sk-canary-external-fedcba9876543210"
IN_A_URL = "canary-url-password-77f"
DATABASE = f"postgresql://plinth:{IN_A_URL}@127.0.0.1:1/books"
# Where a secret is kept, below PLINTH_HOME: nowhere else may it be.
KEPT = {"api_key", "trust/pepper", "keys/audit.json"}


def forms(secret: str | bytes) -> set[bytes]:
    """A secret as it may have been written: as it is, in hexadecimal, in base64."""
    raw = secret.encode() if isinstance(secret, str) else secret
    packed = base64.b64encode(raw).rstrip(b"=")
    return {raw, raw.hex().encode(), packed, packed.translate(bytes.maketrans(b"+/", b"-_"))}


class Day:
    """A service with seeded secrets; what was shown to anybody is in ``shown``."""

    def __init__(self, home: Home, capsys: pytest.CaptureFixture[str]) -> None:
        self.home, self._capsys, self.shown = home, capsys, bytearray()
        self.broken = ScriptedTier(error=RuntimeError("a bug"), state=TierState("broken", model_version="m"))
        self.whole = Whole(home, sample=0.5, models={"broken": self.broken})
        self.secrets: dict[str, set[bytes]] = {name: forms(value) for name, value in ENVIRONMENT.items()}
        self.secrets |= {"key file": forms(IN_A_FILE), "database": forms(IN_A_URL)}

    def run(self, *words: str, code: int = 0) -> str:
        """A verb's standard output, which is remembered with its errors."""
        ended = main(list(words))
        said = self._capsys.readouterr()
        assert ended == code, (words, said.err)
        self.shown += said.out.encode() + said.err.encode()
        return said.out

    def make(self, name: str, *more: str) -> str:
        """A key: what this prints, once, is meant to hold it."""
        assert main(["keys", "create", name, "--json", *more]) == 0
        text = str(json.loads(self._capsys.readouterr().out)["key"])
        self.secrets[f"key {name}"] = forms(text.split("_", 2)[2])
        return text

    def found(self) -> list[tuple[str, str]]:
        """(secret, where) of every secret that is somewhere it should not be."""
        places = {path.relative_to(self.home.root).as_posix(): path for path in self.home.root.rglob("*")}
        contents = {name: path.read_bytes() for name, path in places.items() if path.is_file() and name not in KEPT}
        assert len(contents) > 8, sorted(contents)
        metrics = json.dumps(self.whole.service.recorder.values) + json.dumps(self.whole.service.log, default=str)
        contents |= {"(metrics, log)": metrics.encode(), "(shown)": bytes(self.shown)}
        return [
            (name, place)
            for name, spellings in self.secrets.items()
            for place, data in contents.items()
            if any(spelling in data for spelling in spellings)
        ]


@pytest.fixture
def day(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Day:
    monkeypatch.setenv("PLINTH_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("PLINTH_API_KEY", raising=False)
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    return Day(Home(tmp_path / "home"), capsys)


def work(day: Day, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """All of a day's kinds of work."""
    ann, bob = day.make("ann", "--tenant", "acme", "--scope", "chat,search,audit,metrics"), day.make("bob")
    day.secrets["local key"] = forms(local_key(KeyBook.of(day.home), day.home).split("_", 2)[2])
    with day.whole.client(ann) as client:

        def ask(method: str, path: str, *statuses: int, **more: Any) -> Any:
            reply = client.request(method, path, **more)
            assert reply.status_code in statuses, (path, reply.status_code, reply.text[:200])
            day.shown += reply.content + str(reply.headers).encode()
            return reply

        for body in (CHAT, {**CHAT, "stream": True}, {**CHAT, "user": bob, "metadata": {"a": "b"}}):
            ask("POST", "/v1/chat/completions", 200, json=body)
        # A client may send a secret of its own: it goes no further, wherever it stands.
        told = f"How do I copy a tree? Use {ENVIRONMENT['AWS_ACCESS_KEY_ID']} or {ENVIRONMENT['OPENAI_API_KEY']}"
        ask(
            "POST", "/v1/chat/completions", 200, json={"model": "auto", "messages": [{"role": "user", "content": told}]}
        )
        ask("POST", "/v1/responses", 200, json={"model": "auto", "input": told})
        ask("POST", "/v1/embeddings", 200, json={"model": EMBEDDER, "input": told})
        ask("POST", "/v1/search", 200, json={"query": QUESTION})
        ask("POST", "/v1/chat/completions", 500, json={**CHAT, "model": "broken"})
        ask("POST", "/v1/chat/completions", 400, content=b"{" * 40)
        for header in (f"Bearer {bob}x", f"Basic {bob}", f"{bob}"):
            ask("GET", "/v1/models", 401, headers={"authorization": header})
        ask("GET", "/v1/models", 200, headers={"user-agent": bob, "x-api-key": bob, "referer": f"http://x/?k={bob}"})
        ask("GET", f"/v1/usage?key={bob}", 400)
        for path in ("/v1/usage", "/v1/models", "/v1/collections", "/v1/plinth/me", "/v1/plinth/ops", "/metrics"):
            ask("GET", path, 200)
        ask("GET", "/v1/plinth/audit", 200)
        signed = client.post("/v1/plinth/session", json={"key": bob})
        day.secrets["session"] = forms(next(iter(signed.cookies.values())).rpartition(".")[2])
        ask("POST", "/v1/plinth/session", 401, json={"code": day.whole.book.link("ann") + "x"})
        ask("POST", "/v1/plinth/session", 401, json={"key": bob + "x"})
        eventually(lambda: any(line["status"] == 500 for line in day.whole.service.log), 60)
    day.run("keys", "list", "--all")
    day.run("keys", "usage")
    day.run("keys", "limits", "acme", "--tokens-per-day", "100000")
    day.run("audit", "show", "--json")
    day.run("audit", "export", "--out", str(day.home.root / "audit.jsonl"))
    day.run("audit", "verify")
    day.run("logs", "-n", "500")
    # A database whose address holds a password is refused, and an external tier's key file is no part of what it says.
    day.run("keys", "usage", "--set", f"trust.ledger.url={DATABASE}", code=2)
    (folder / "key").write_text(IN_A_FILE)
    (folder / "key").chmod(0o600)
    tier = TierConfig(
        name="far", engine="openai", url="http://127.0.0.1:1/v1", model="m", key_file=str(folder / "key")
    )  # fmt: skip
    assert read_key(folder / "key") == IN_A_FILE
    day.shown += repr(tier).encode() + tier.model_dump_json().encode() + repr(PlinthConfig()).encode()
    # A bug in a verb that holds a secret at that moment: what is kept of it is where it happened.
    monkeypatch.setattr(KeyBook, "entries", lambda self, held=ann: 1 / 0)
    day.run("keys", "list", code=1)
    assert (day.home.logs / "cli-error.log").is_file()


def test_no_secret_is_anywhere_but_where_it_is_kept(day: Day, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work(day, monkeypatch, tmp_path)
    pepper = (day.home.root / "trust" / "pepper").read_text().strip()
    day.secrets["pepper"] = forms(pepper) | forms(bytes.fromhex(pepper))
    ring = KeyRing.read(day.home.root / "keys" / "audit.json")
    for number, value in enumerate((*ring.masters.values(), ring.signer.private_bytes_raw())):
        day.secrets[f"audit key {number}"] = forms(value)
    assert len(day.secrets) >= 12
    assert day.found() == []
    for name in KEPT:
        assert (day.home.root / name).stat().st_mode & 0o077 == 0, name
    # The search would find one: in a log line as it is, in another file in hexadecimal.
    (day.home.logs / "gateway.jsonl").open("a").write(f'{{"x": "{IN_A_FILE}"}}\n')
    write_private(day.home.root / "dump", pepper.encode().hex())
    assert {place for _, place in day.found()} == {"logs/gateway.jsonl", "dump"}
