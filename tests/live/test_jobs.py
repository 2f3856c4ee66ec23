"""Jobs beside each other on a real cluster: a small one is not starved, a second heavy one waits and says for whom."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cluster.core.storage import Store
from tests.live.conftest import Service, eventually
from tests.live.test_build_index import dataset

pytestmark = [pytest.mark.live, pytest.mark.slow]


def test_a_small_job_ends_beside_a_heavy_one_and_a_second_heavy_one_waits(service: Service, tmp_path: Path) -> None:
    made = dataset(Store(str(service.home / "store")), 4000)  # minutes of embedding, on both CPUs
    tokenizer = {
        "version": "1.0", "added_tokens": [], "pre_tokenizer": {"type": "Whitespace"},
        "model": {"type": "WordLevel", "vocab": {"[UNK]": 0, "<|endoftext|>": 1, "sail": 2}, "unk_token": "[UNK]"},
    }  # fmt: skip
    (tmp_path / "tokenizer.json").write_text(json.dumps(tokenizer))
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "cluster.cli.main", *arguments]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
        started.append(subprocess.Popen(command, env=service.environ, cwd=service.home, text=True, **quiet))  # type: ignore[call-overload]
        return started[-1]

    def job(title: str) -> dict[str, Any]:
        found = [row for row in service.json("status")["jobs"]["running"] if row["title"] == title]
        return found[0] if found else {}

    try:
        heavy = start("index", "build", "--dataset", f"notes@{made.version}", "--set", "index.name=notes", "--no-live")
        eventually(lambda: job("index build").get("stage", "").endswith("embed"), 240, "embedding")

        submitted = service.plinth("data", "tokens", "--dataset", "boat", "--tokenizer", str(tmp_path), "--submit")
        assert "tokens" in submitted.stdout
        now = job("index build")
        assert (now["state"], now["holds"]) == ("running", True), "the small job waited for the heavy one's end"

        waiting = start("data", "prepare", "--source", str(service.folder), "--name", "other")
        eventually(lambda: job("data prepare").get("state") == "waiting", 120, "the second heavy job waits")
        assert "held by index build of notes" in job("data prepare")["waiting"]
        table = service.plinth("status").stdout
        assert "index build of notes" in table
        assert "held by index build of notes" in table.replace("\n", " ")
        waiting.send_signal(signal.SIGINT)
        assert waiting.wait(60) == 130
        assert waiting.stderr is not None
        assert "waiting for a place, 1st in the queue: held by index build of notes" in waiting.stderr.read()

        heavy.kill()
        heavy.wait(60)
        service.plinth("data", "prepare", "--source", str(service.folder), "--name", "other")
        ended = {(row["title"], row["state"], row["via"]) for row in service.json("status")["jobs"]["finished"]}
        assert {("quickstart", "done", ""), ("data tokens", "done", "ray job"), ("data prepare", "interrupted", ""),
                ("index build", "lost", ""), ("data prepare", "done", "")} <= ended  # fmt: skip
    finally:
        for process in started:
            process.kill()
            process.communicate()
