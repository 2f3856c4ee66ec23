"""The running platform as a user and as an attacker on the same machine see it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import httpx
import openai
import pytest

from cluster.core.home import Home
from cluster.core.storage import Store
from cluster.processes import listeners
from data_jobs.corpus.parquet import read_table
from tests.live.conftest import PAGES, Service, eventually, write_pages

pytestmark = pytest.mark.live
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def client(service: Service) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{service.url}/v1", api_key=service.key, http_client=httpx.Client(trust_env=False))


# -- answers ---------------------------------------------------------------------------------------
def test_quickstart_answered_and_abstained(service: Service) -> None:
    answers = service.quickstart["answers"]
    assert len(answers) == 3
    assert any(answer["plinth"]["grounded"] and answer["plinth"]["citations"] for answer in answers)
    assert answers[-1]["plinth"]["grounded"] is False


@pytest.mark.parametrize(
    ("question", "document", "fact"),
    [
        ("How often do I replace the seal of the bilge pump?", "pumps.md", "400 hours"),
        ("How much oil does the engine take?", "engine.md", "6.5 litres"),
        ("At what wind do I take the second reef?", "sails.txt", "25 knots"),
        ("How long is a watch at night?", "crew.jsonl#watch", "four hours"),
    ],
)
def test_answers_quote_the_right_document(service: Service, question: str, document: str, fact: str) -> None:
    reply = service.ask(question).json()
    extra = reply["plinth"]
    assert extra["grounded"], reply
    assert fact in reply["choices"][0]["message"]["content"]
    assert document in [citation["document"] for citation in extra["citations"]]
    assert len(extra["citations"]) <= 5
    assert {"retriever", "guard_in", "guard_out", "tier"} <= set(extra["timings_ms"])


def test_it_says_when_it_does_not_know(service: Service) -> None:
    reply = service.ask("Who won the football world cup in 1998?").json()
    assert reply["plinth"]["grounded"] is False
    assert "do not know" in reply["choices"][0]["message"]["content"].lower()


def test_personal_data_left_the_corpus(service: Service) -> None:
    reply = service.ask("Whom do I write to when the berth is occupied?")
    assert "bob.jones" not in reply.text
    assert "415 555" not in reply.text
    found = [p for p in service.home.rglob("*.parquet") if b"bob.jones" in p.read_bytes()]
    assert found == []


# -- OpenAI SDK, unchanged -------------------------------------------------------------------------
def test_openai_sdk(client: openai.OpenAI) -> None:
    messages = [{"role": "user", "content": "How often is the engine oil changed?"}]
    whole = client.chat.completions.create(model="auto", messages=messages)  # type: ignore[arg-type]
    assert "150 hours" in (whole.choices[0].message.content or "")
    parts = list(client.chat.completions.create(model="quote", messages=messages, stream=True))  # type: ignore[arg-type]
    text = "".join(part.choices[0].delta.content or "" for part in parts if part.choices)
    assert text == whole.choices[0].message.content
    assert parts[-1].model_extra["plinth"]["citations"]  # type: ignore[index]
    completion = client.completions.create(model="quote", prompt="How often is the engine oil changed?")
    assert "150 hours" in completion.choices[0].text
    vectors = client.embeddings.create(model="all-minilm-l6-v2", input=["a pump", "a sail"])
    assert [len(row.embedding) for row in vectors.data] == [384, 384]
    assert {"auto", "quote", "all-minilm-l6-v2"} <= {model.id for model in client.models.list()}
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model="gpt-x", messages=messages)  # type: ignore[arg-type]


BAD_BODIES: dict[str, tuple[bytes, int]] = {
    "empty": (b"", 400),
    "open brace": (b"{", 400),
    "list": (b"[]", 400),
    "no messages": (b'{"model":"auto"}', 400),
    "surrogate": (b'{"model":"auto","messages":[{"role":"user","content":"\\ud800"}]}', 400),
    "NaN": (b'{"model":"auto","temperature":NaN,"messages":[{"role":"user","content":"x"}]}', 400),
    "negative": (b'{"model":"auto","max_tokens":-1,"messages":[{"role":"user","content":"x"}]}', 400),
    "unknown field": (b'{"model":"auto","api_base":"http://x","messages":[{"role":"user","content":"x"}]}', 400),
    "brackets": (b"[" * 60_000, 400),
    "unknown model": (b'{"model":"nope","messages":[{"role":"user","content":"x"}]}', 404),
    "2 MB": (b'{"model":"auto","messages":[{"role":"user","content":"' + b"x" * 2_000_000 + b'"}]}', 413),
}


@pytest.mark.parametrize("name", BAD_BODIES)
def test_bad_bodies_through_the_front_door(service: Service, name: str) -> None:
    body, status = BAD_BODIES[name]
    headers = {"content-type": "application/json", **service.bearer}
    url = f"{service.url}/v1/chat/completions"
    reply = httpx.post(url, content=body, headers=headers, timeout=30, trust_env=False)
    assert reply.status_code == status, reply.text
    assert set(reply.json()["error"]) == {"message", "type", "param", "code"}


# -- security --------------------------------------------------------------------------------------
def test_everything_listens_on_loopback(service: Service) -> None:
    found = listeners([process.pid for process in service.instance.processes()])
    ports = {listener.port for listener in found}
    assert {service.instance.http_port, service.instance.gcs_port, service.instance.dashboard_port} <= ports
    assert len(found) > 10, "the reader of /proc must see Ray's many ports"
    assert [listener for listener in found if not listener.loopback] == []


def test_fast_serve_mode(service: Service) -> None:
    """HAProxy answers on the public port, no Python proxy in between."""
    holders = [x.pid for x in listeners(service.pids("haproxy")) if x.port == service.instance.http_port]
    assert holders


def test_dashboard_and_jobs_need_the_token(service: Service) -> None:
    token = (service.home / "ray_token").read_text()
    assert (service.home / "ray_token").stat().st_mode & 0o777 == 0o600
    for path in ("/api/version", "/api/jobs/", "/api/serve/applications/"):
        url = service.instance.dashboard_url + path
        assert httpx.get(url, trust_env=False).status_code == 401
        assert httpx.get(url, headers={"authorization": "Bearer wrong"}, trust_env=False).status_code == 403
        assert httpx.get(url, headers={"authorization": f"Bearer {token}"}, trust_env=False).status_code == 200
    job = {"entrypoint": "touch /tmp/plinth-must-not-exist"}
    assert httpx.post(f"{service.instance.dashboard_url}/api/jobs/", json=job, trust_env=False).status_code == 401


def test_routes_are_not_listed_and_foreign_hosts_refused(service: Service) -> None:
    for path in ("/-/routes", "/%2d/routes", "/%2D%2Froutes", "//-/routes"):
        assert httpx.get(service.url + path, trust_env=False).status_code == 404
    for path in ("/docs", "/redoc", "/openapi.json"):
        assert httpx.get(service.url + path, trust_env=False).status_code == 401
        assert httpx.get(service.url + path, headers=service.bearer, trust_env=False).status_code == 404
    reply = httpx.get(f"{service.url}/v1/models", headers={"host": "evil.example", **service.bearer}, trust_env=False)
    assert reply.status_code in (400, 403, 421)


def test_haproxy_admin_socket_is_private(service: Service) -> None:
    folder = Path(service.instance.temp_dir)
    assert [p for p in folder.rglob("admin.sock*") if p.is_socket()]
    for path in (service.home / "run", service.home / "logs", folder):
        assert path.stat().st_mode & 0o077 == 0


# -- jobs ------------------------------------------------------------------------------------------
@pytest.mark.slow
@pytest.mark.ci
def test_ray_job_submit_from_another_shell(service: Service, tmp_path: Path) -> None:
    """As a user does: eval "$(plinth env)", then plain `ray job submit` from the checkout."""
    folder = write_pages(tmp_path / "notes", {"a.md": "# Anchors\n\nLet out chain of five times the depth.\n"})
    script = (
        f'eval "$({sys.executable} -m cluster.cli.main env)" && '
        f"{sys.executable} -m ray.scripts.scripts job submit --working-dir . -- "
        f"python -m data_jobs prepare --source {folder} --name anchors --json"
    )
    environ = {k: v for k, v in service.environ.items() if not k.startswith("RAY_")}
    done = subprocess.run(
        ["bash", "-c", script], env=environ, cwd=ROOT, capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    report = service.json("data", "report", "anchors")
    assert report["counts"]["kept"] == 1
    stranger = script.replace("&& ", "&& unset RAY_AUTH_TOKEN_PATH RAY_AUTH_MODE && ", 1)
    environ["HOME"] = str(tmp_path)  # no token of Ray's own either
    done = subprocess.run(
        ["bash", "-c", stranger], env=environ, cwd=ROOT, capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode != 0
    assert "Unauthorized" in done.stdout + done.stderr


@pytest.mark.slow
def test_submit_flag_gives_the_same_dataset(service: Service, tmp_path: Path) -> None:
    folder = write_pages(tmp_path / "notes")
    here = service.json("data", "prepare", "--source", str(folder), "--name", "twice")
    beside = os.path.relpath(folder, service.home)  # where the command is given, and not where Ray runs it
    done = service.plinth("data", "prepare", "--source", beside, "--name", "twice", "--submit", "--json")
    assert here["version"] in done.stdout


# -- data sets made of others -----------------------------------------------------------------------
@pytest.mark.slow
@pytest.mark.ci
def test_synthetic_rows_are_published_with_their_report_and_the_same_run_is_reused(service: Service) -> None:
    made = service.json("data", "synth", "--dataset", "boat", "--share", "0.5", "--seed", "1")
    counts = made["counts"]
    assert made["kind"] == "synthetic"
    assert counts["candidates"] == counts["kept"] + counts["filtered"] + counts["not_chosen"]
    assert 0 < counts["kept"] <= counts["allowed"] == counts["documents"]
    store = Store(Home(service.home).store_uri)
    manifest = store.manifest("synthetic", made["name"], made["version"])
    rows = [
        row for f in manifest.files if f.path.startswith("rows-")
        for row in read_table(store.read(f"{store.artefact(manifest)}/{f.path}")).to_pylist()
    ]  # fmt: skip
    assert len(rows) == counts["kept"]
    assert {row["kind"] for row in rows} == {"synthetic"}
    assert all(row["answer"] in row["passage"] for row in rows)
    again = service.json("data", "synth", "--dataset", "boat", "--share", "0.5", "--seed", "1")
    assert again["version"] == made["version"]


@pytest.mark.slow
@pytest.mark.ci
def test_more_than_the_share_allows_is_refused(service: Service) -> None:
    done = service.plinth("data", "synth", "--dataset", "boat", "--count", "100000", "--json", check=False)
    assert done.returncode == 4
    assert json.loads(done.stdout)["error"]["policy"] == "synthetic_share"


def test_a_dataset_becomes_token_shards(service: Service, tmp_path: Path) -> None:
    words = {"[UNK]": 0, "<|endoftext|>": 1, "the": 2, "pump": 3}
    model = {"type": "WordLevel", "vocab": words, "unk_token": "[UNK]"}
    tokenizer = {"version": "1.0", "added_tokens": [], "pre_tokenizer": {"type": "Whitespace"}, "model": model}
    (tmp_path / "tokenizer.json").write_text(json.dumps(tokenizer))
    made = service.json("data", "tokens", "--dataset", "boat", "--tokenizer", str(tmp_path))
    assert made["kind"] == "tokens"
    assert made["counts"]["documents"] > 0
    assert made["counts"]["tokens"] > made["counts"]["documents"]
    again = service.json("data", "tokens", "--dataset", "boat", "--tokenizer", str(tmp_path))
    assert again["version"] == made["version"]


# -- the index goes live and back ------------------------------------------------------------------
@pytest.mark.slow
@pytest.mark.ci
def test_new_index_and_rollback_without_a_failed_request(service: Service, tmp_path: Path) -> None:
    question = "How many litres of diesel does the spare tank hold?"
    folder = write_pages(
        tmp_path / "boat", {**PAGES, "tank.md": "# Spare tank\n\nThe spare tank holds 87 litres of diesel.\n"}
    )
    before = service.ask(question).json()["plinth"]
    assert "tank.md" not in [c["document"] for c in before["citations"]]
    replies: list[httpx.Response] = []
    stop = threading.Event()

    def load() -> None:
        while not stop.is_set():
            replies.append(service.ask(question))

    threads = [threading.Thread(target=load) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        service.plinth("data", "prepare", "--source", str(folder), "--name", "boat")
        built = service.json("index", "build", "--dataset", "boat", "--collection", "main")
        eventually(lambda: service.ask(question).json()["plinth"]["index_version"] == built["version"])
        grounded = service.ask(question).json()
        assert "87 litres" in grounded["choices"][0]["message"]["content"]
        gone = service.json("index", "rollback")
        assert (gone["from"], gone["live"]) == (built["version"], before["index_version"])
        eventually(lambda: service.ask(question).json()["plinth"]["index_version"] == before["index_version"])
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert len(replies) > 20
    assert {reply.status_code for reply in replies} == {200}
    versions = {reply.json()["plinth"]["index_version"] for reply in replies}
    assert versions == {before["index_version"], built["version"]}


@pytest.mark.slow
@pytest.mark.ci
def test_a_damaged_index_is_refused_and_the_last_good_one_serves(service: Service) -> None:
    listed = {row["version"]: row["live"] for row in service.json("index", "list")}
    live = next(version for version, is_live in listed.items() if is_live)
    other = next((version for version, is_live in listed.items() if not is_live), None)
    assert other is not None, "the rollback test leaves a second version"
    folder = service.home / "store" / "indexes" / "main" / other
    victim = max((p for p in folder.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
    data = bytearray(victim.read_bytes())
    data[len(data) // 2] ^= 1
    victim.write_bytes(data)
    from cluster.core.storage import Store

    store = Store(str(service.home / "store"))
    store.move_alias("indexes", "main", "live", other, why="test")
    log = service.home / "logs" / "retriever.jsonl"
    eventually(lambda: '"refused"' in log.read_text(), what="the refusal in the log")
    assert service.ask("How much oil does the engine take?").json()["plinth"]["index_version"] == live
    service.plinth("index", "rollback")


# -- faults ----------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["guard", "retriever", "tier-quote"])
def test_a_killed_replica_is_replaced(service: Service, name: str) -> None:
    pids = service.pids(f"ServeReplica:plinth:{name}")
    assert pids
    os.kill(pids[0], signal.SIGKILL)
    seen = []

    def answered() -> bool:
        reply = service.ask("How much oil does the engine take?")
        seen.append(reply.status_code)
        assert reply.status_code in (200, 503), reply.text
        if reply.status_code == 503:
            assert reply.json()["error"]["code"] == "server_is_overloaded"
        replaced = len(set(service.pids(f"ServeReplica:plinth:{name}")) - {pids[0]}) >= len(pids)
        return reply.status_code == 200 and replaced

    eventually(answered, 90, f"a new {name}")


def test_without_any_guard_nothing_is_answered(service: Service) -> None:
    """Both guards killed: until one is back, requests fail closed; not one answer slips through unchecked."""
    for pid in service.pids("ServeReplica:plinth:guard"):
        os.kill(pid, signal.SIGKILL)
    first = service.ask("How much oil does the engine take?")
    if first.status_code == 200:  # a new guard was faster than the request
        assert any(verdict["stage"] == "guard_out" for verdict in first.json()["plinth"]["verdicts"])
    else:
        assert first.status_code == 503
        assert "6.5 litres" not in first.text
    eventually(lambda: service.ask("How much oil does the engine take?").status_code == 200, 90, "guards again")


# -- what people look at ---------------------------------------------------------------------------
def test_metrics_of_all_replicas(service: Service) -> None:
    service.ask("How much oil does the engine take?")

    def counted() -> bool:
        text = httpx.get(f"{service.url}/metrics", headers=service.bearer, trust_env=False, timeout=10).text
        return "plinth_requests_total" in text and "plinth_stage_ms" in text

    eventually(counted, 60, "the request in /metrics")


def test_command_line_against_the_service(service: Service) -> None:
    said = service.plinth("ask", "How", "much", "oil", "does", "the", "engine", "take?").stdout
    assert "6.5 litres" in said
    assert "[1] engine.md" in said
    status = service.json("status")
    assert status["service"] == "ready"
    assert status["index"]["counts"]["documents"] >= 5
    assert service.plinth("up").returncode == 0, "a second up leaves it running"
    variables = service.json("env")
    assert variables["OPENAI_BASE_URL"] == f"{service.url}/v1"
    assert not any((service.home / "ray_token").read_text() in value for value in variables.values())
    answer = service.json("ask", "How much oil does the engine take?")
    raw = service.plinth("logs", "--request", answer["request_id"], "--json").stdout
    lines = [json.loads(line) for line in raw.splitlines()]
    assert [line["event"] for line in lines if line["component"] == "gateway"] == ["request"]
    assert "oil" not in json.dumps(lines), "logs carry no prompt text"


def test_second_quickstart_reuses_everything(service: Service) -> None:
    again = service.json("quickstart", "--source", str(service.folder))
    assert again["dataset"] == service.quickstart["dataset"]
    assert again["index"] == service.quickstart["index"]
    assert sum(again["seconds"].values()) < 40
