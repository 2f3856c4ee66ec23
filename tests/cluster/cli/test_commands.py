"""The command line without a cluster: help that teaches, exit codes, refusals before any work starts."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cluster.cli.main import main
from cluster.core.home import Home
from cluster.core.storage import Store
from cluster.local_head import recorded


def test_wrong_configuration_is_exit_2(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "--set", "serve.nope=1"]) == 2
    assert "no field 'nope'" in capsys.readouterr().err


@pytest.mark.parametrize("source", ["missing", "empty", "a-file"])
def test_unusable_sources_are_exit_3_before_anything_starts(
    source: str, home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "a-file").write_text("x")
    assert main(["quickstart", "--source", str(tmp_path / source)]) == 3
    said = capsys.readouterr().err
    assert source in said
    assert said.count("\n") == 1
    assert recorded(Home.from_env()) is None


@pytest.mark.parametrize("verb", [["up"], ["quickstart"]])
def test_a_taken_port_is_exit_5_with_the_remedy(
    verb: list[str], home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        assert main([*verb, "--set", f"cluster.http_port={port}", "--set", "cluster.allow_other_ray=true"]) == 5
    said = capsys.readouterr().err
    assert str(port) in said
    assert "cluster.http_port" in said
    assert recorded(Home.from_env()) is None, "nothing was started"


@pytest.mark.parametrize("field", ["min_memory_mb", "min_disk_mb"])
def test_too_little_memory_or_disk_is_exit_5(field: str, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["up", "--set", f"cluster.{field}=100000000"]) == 5
    said = capsys.readouterr().err
    assert ("memory" if field == "min_memory_mb" else "disk") in said
    assert "MiB" in said
    assert "->" in said, "with the remedy"
    assert recorded(Home.from_env()) is None


def test_another_ray_on_the_machine_is_exit_5(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A process named like Ray's head service, started by somebody else, stops the start before it begins."""
    program = tmp_path / "gcs_server"
    shutil.copy(shutil.which("sleep") or "/bin/sleep", program)
    stranger = subprocess.Popen([program, "60"])
    try:
        deadline = time.monotonic() + 5
        while Path(f"/proc/{stranger.pid}/comm").read_text().strip() != "gcs_server":
            assert time.monotonic() < deadline
        assert main(["up"]) == 5
        said = capsys.readouterr().err
        assert str(stranger.pid) in said
        assert "cluster.allow_other_ray=true" in said
        assert main(["down"]) == 0
        assert stranger.poll() is None, "down ends only what it started"
    finally:
        stranger.kill()
        stranger.wait()


def test_verbs_that_need_the_service_say_how_to_start_it(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    unused = ["--set", f"cluster.http_port={port}"]
    for verb in (["ask", "anything?", *unused], ["env"], ["data", "prepare"], ["index", "search", "x", *unused]):
        assert main(verb) == 5, verb
        assert "plinth up" in capsys.readouterr().err


def test_status_and_doctor_speak_json(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["service"] == "stopped"
    assert found["index"] is None
    main(["doctor", "--json"])
    checks = {check["name"]: check["state"] for check in json.loads(capsys.readouterr().out)}
    assert checks["python"] == "ok"
    assert checks["packages"] == "ok"


def test_preflight_names_the_remedy(tmp_path: Path) -> None:
    root = Path(__file__).resolve().parents[3]
    good = subprocess.run(["sh", root / "preflight.sh", sys.executable], capture_output=True, text=True, check=False)
    assert good.returncode == 0, good.stderr
    old = tmp_path / "python3"
    old.write_text('#!/bin/sh\n[ "$1" = --version ] && echo Python 3.9.1\nexit 1\n')
    old.chmod(0o755)
    for python, remedy in ((str(old), "3.11 or 3.12"), ("no-such-python", "apt-get install")):
        bad = subprocess.run(["sh", root / "preflight.sh", python], capture_output=True, text=True, check=False)
        assert bad.returncode == 5
        assert remedy in bad.stderr


def test_no_accelerator_packages_came_with_a_cpu_torch() -> None:
    import importlib.metadata

    version = importlib.metadata.version("torch")
    if "+cpu" not in version:
        pytest.skip(f"torch {version} is not the CPU build")
    names = {dist.metadata["Name"].lower() for dist in importlib.metadata.distributions()}
    assert sorted(n for n in names if n.startswith(("nvidia-", "triton"))) == []


def test_head_environment_carries_no_secrets(tmp_path: Path) -> None:
    from cluster.serve_mode import head_environment, private_ports

    home = Home(tmp_path)
    base = {"PATH": "/usr/bin", "LANG": "C", "OPENAI_API_KEY": "sk", "MY_SECRET": "s", "AWS_SECRET_ACCESS_KEY": "a",
            "RAY_ADDRESS": "10.0.0.1:6379", "DB_PASSWORD": "p", "GITHUB_TOKEN": "t"}  # fmt: skip
    made = head_environment(home, str(tmp_path), dict.fromkeys(private_ports(), 1), "id", base)
    assert not {
        "OPENAI_API_KEY",
        "MY_SECRET",
        "AWS_SECRET_ACCESS_KEY",
        "RAY_ADDRESS",
        "DB_PASSWORD",
        "GITHUB_TOKEN",
    } & set(made)
    assert made["RAY_AUTH_MODE"] == "token"
    assert made["LANG"] == "C"
    assert made["PATH"].split(os.pathsep)[0] == str(Path(sys.executable).parent)


@pytest.mark.parametrize(("port", "state"), [(12_345, "warn"), (30_500, "warn"), (24_680, "ok")])
def test_doctor_warns_of_ports_that_ray_gives_away(
    port: int, state: str, home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cluster.doctor.port_free", lambda *_: True)
    main(["doctor", "--json", "--set", f"cluster.dashboard_port={port}"])
    (check,) = [check for check in json.loads(capsys.readouterr().out) if check["name"] == f"port {port}"]
    assert check["state"] == state
    assert ("cluster.dashboard_port=" in check["remedy"]) == (state == "warn")


def test_the_kind_of_an_error_is_that_of_its_exit_code(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "report", "nosuch", "--json"]) == 3
    error = json.loads(capsys.readouterr().out)["error"]
    assert (error["kind"], error["exit_code"], error["name"]) == ("bad_input", 3, "nosuch")
    assert error["message"].startswith("there is no nosuch@latest among the datasets in ")


def test_what_is_misspelt_is_answered_with_what_there_is(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = Store(Home(home).store_uri)
    staging = store.staging("notes")
    store.write(f"{staging}/report.json", b"{}")
    store.publish("datasets", "notes", staging, run_key="n")
    assert main(["data", "report", "note", "--json"]) == 3
    assert json.loads(capsys.readouterr().out)["error"]["message"].endswith("; there are notes")
    assert main(["doctor", "--set", "train.stepz=3", "--json"]) == 2
    assert "(did you mean steps?); it has " in json.loads(capsys.readouterr().out)["error"]["message"]


IMPORTED = """
import sys
from cluster.cli.main import main
code = main(sys.argv[1:])
print(code, *[name for name in ("ray", "torch", "pandas", "pyarrow", "httpx", "fsspec") if name in sys.modules])
"""


@pytest.mark.parametrize(("words", "code"), [("status", 0), ("data report", 3), ("lineage nosuch", 3)])
def test_a_short_verb_imports_no_heavy_library(words: str, code: int, home: Path) -> None:
    done = subprocess.run([sys.executable, "-c", IMPORTED, *words.split()], capture_output=True, text=True, check=False)
    assert done.stdout.splitlines()[-1].split() == [str(code), "fsspec"], done.stderr
