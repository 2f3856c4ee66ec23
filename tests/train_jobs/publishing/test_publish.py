"""Publishing: what a version holds, that it is all or nothing, and what the card says."""

from __future__ import annotations

import json
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import pytest

from actors.registry.models import Registry
from cluster.core.errors import EnvironmentFaultError, PolicyRefusedError, UsageError
from cluster.core.presets import preset
from cluster.core.progress import Silent
from cluster.core.storage import Store
from tests.actors.published import Gate, metadata
from tests.train_jobs.publishing.model_folders import gpt2, llama
from train_jobs.publishing.card import render
from train_jobs.publishing.plots import loss_curve
from train_jobs.publishing.publish import publish_model

ROWS = [
    {"step": s, "stage": stage, "train_loss": 4.0 - s / 50, **({"held_out_loss": 4.1 - s / 50} if s % 10 == 0 else {})}
    for stage in ("pretrain", "finetune") for s in range(1, 51)
]  # fmt: skip
METRICS = {
    "training": {"steps": 50, "tokens_per_s": 12345.6, "seconds": float("nan")},
    "held_out": {
        "answerable": {"n": 200, "model": 0.51, "abstained": 0.1}, "unanswerable": {"n": 100, "abstained": 0.93},
        "difference": {"mean": 0.21, "low": 0.15, "high": 0.27},
        "bands": [{"low": 0.0, "high": 0.5, "n": 80, "model": 0.4, "quote": 0.45}],
    },
}  # fmt: skip
FACTS = {
    key: value for key, value in metadata("small").items() if key not in ("tier", "tokenizer_sha256", "parameters")
}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = llama(tmp_path_factory.mktemp("checkpoint"))
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    (folder / "optimizer.safetensors").write_bytes(b"not for publishing")
    return folder


def labelled(store: Store) -> str:
    """A dataset of which some documents are not for everybody."""
    store.write(f"{store.staging('d')}/content.json", b"d")
    counts = {"access": {"": 4, "acme:hr": 2}}
    made = store.publish("datasets", "wages", store.staging("d"), run_key="d", counts=counts)
    return f"wages@{made.version}"


def read(store: Store, manifest: Any, name: str) -> Any:
    return store.read_json(f"{store.artefact(manifest)}/{name}")


@pytest.mark.process
@pytest.mark.parametrize("kind", ["local", "memory"])
def test_a_published_version_holds_everything(checkpoint: Path, tmp_path: Path, kind: str) -> None:
    store = Store(str(tmp_path / "store") if kind == "local" else f"memory://{uuid.uuid4().hex}")
    facts_in = {**FACTS, "provenance": {**FACTS["provenance"], "examples": labelled(store)}}
    manifest = publish_model(preset("laptop"), store, "small", checkpoint, facts_in, METRICS, Silent())
    names = {entry.path for entry in manifest.files}
    assert {
        "config.json", "model.safetensors", "tokenizer.json", "openvino/openvino_model.xml", "plinth.json",
        "openvino/openvino_model.bin", "metrics.json", "metrics.jsonl", "loss.png", "card.md", "card.json",
    } <= names  # fmt: skip
    assert "optimizer.safetensors" not in names
    facts, metrics = read(store, manifest, "plinth.json"), read(store, manifest, "metrics.json")
    assert (facts["tier"], facts["engine"], facts["format"]) == ("small", "openvino", "points")
    assert facts["tokenizer_sha256"] == next(f.sha256 for f in manifest.files if f.path == "tokenizer.json")
    assert metrics["conversion"] == {"engine": "openvino", "equal_tokens": 512, "compared_tokens": 512}
    assert metrics["held_out"]["difference"]["low"] == 0.15
    assert metrics["training"]["seconds"] is None, "a number that is not finite is no JSON"
    assert manifest.counts["access"] == {"": 4, "acme:hr": 2}, "those of what it learnt from"
    assert facts["answers_only"] == "acme:hr"
    registry = Registry(store)
    served = registry.served("small")
    assert served is not None
    assert (served.version, served.champion) == (manifest.version, False)

    again = publish_model(preset("laptop"), store, "small", checkpoint, facts_in, METRICS, Silent())
    assert again.version == manifest.version
    assert [e.event for e in registry.history("small")] == ["registered", "candidate"]
    assert not store.exists(store.path("staging")) or store.fs.find(store.path("staging")) == []

    registry.promote("small", manifest.version, Gate())
    markdown = render(registry.card("small"))
    for text in ("# Model card: small", "## Intended use", "## Limits", "## How to reproduce", "0.21 [0.15, 0.27]",
                 "plinth quickstart", "Gate: **passed**", "| 0 | 0.5 | 80 | 0.4 | 0.45 |", "pydocs@3",
                 "acme:hr"):  # fmt: skip
        assert text in markdown
    stored = store.read(f"{store.artefact(manifest)}/card.md").decode()
    assert "Gate:" not in stored, "what is decided later is not in the immutable card"
    store.verify(manifest)


@pytest.mark.process
def test_what_cannot_be_converted_runs_on_transformers(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "store"))
    manifest = publish_model(preset("laptop"), store, "small", gpt2(tmp_path / "gpt2"), FACTS, {}, Silent())
    assert read(store, manifest, "plinth.json")["engine"] == "transformers"
    assert "GPT2LMHeadModel" in read(store, manifest, "metrics.json")["conversion"]["reason"]
    assert not any(entry.path.startswith("openvino/") for entry in manifest.files)
    assert "loss.png" not in {entry.path for entry in manifest.files}


@pytest.mark.process
def test_missing_metadata_and_reserved_names_publish_nothing(checkpoint: Path, tmp_path: Path) -> None:
    store = Store(str(tmp_path / "store"))
    incomplete = {key: value for key, value in FACTS.items() if key != "license"}
    with pytest.raises(UsageError, match="'license'"):
        publish_model(preset("laptop"), store, "small", checkpoint, incomplete, {}, Silent())
    with pytest.raises(PolicyRefusedError, match="reserved"):
        publish_model(preset("laptop"), store, "quote", checkpoint, FACTS, {}, Silent())
    assert store.names("models") == []


@pytest.mark.process
def test_a_full_disk_leaves_nothing(checkpoint: Path, tmp_path: Path) -> None:
    """Every file of the process is limited in size: the copy of the weights does not fit."""
    code = """
import json, resource, signal, sys
from pathlib import Path
from cluster.core.errors import EnvironmentFaultError
from cluster.core.presets import preset
from cluster.core.progress import Silent
from cluster.core.storage import Store
from train_jobs.publishing.publish import publish_model

store, folder, facts, limit = sys.argv[1:]
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), int(limit)))
try:
    publish_model(preset("laptop"), Store(store), "small", Path(folder), json.loads(facts), {}, Silent())
except EnvironmentFaultError as error:
    print("refused:", error.message)
"""
    store = Store(str(tmp_path / "store"))
    root = Path(__file__).resolve().parents[3]
    for limit in (50_000, 400):  # at the weights; at the first small file
        command = [sys.executable, "-c", code, store.uri, str(checkpoint), json.dumps(FACTS), str(limit)]
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=120, check=True)
        assert done.stdout.startswith("refused: cannot write"), done.stderr
        assert store.fs.find(store.path("staging")) == []
        assert store.names("models") == []


@pytest.mark.process
def test_too_little_space_is_said_before_anything_is_written(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "train_jobs.publishing.publish.shutil.disk_usage", lambda path: type("Usage", (), {"free": 1 << 20})
    )
    with pytest.raises(EnvironmentFaultError, match="1 MiB are free"):
        publish_model(preset("laptop"), Store(str(tmp_path / "s")), "small", checkpoint, FACTS, {}, Silent())


def test_cards_escape_what_comes_from_outside() -> None:
    card = {
        "name": "<script>alert(1)</script>", "what_it_is": "a|b `c` *d*",
        "facts": {"license": "x | y\n# heading", "note": "[click](http://evil.example)"},
        "reproduce": {"commands": ["echo ``` <b>"], "note": ""},
    }  # fmt: skip
    text = render(card)
    assert "<script>" not in text
    assert "](http" not in text
    assert "x \\| y # heading |" in text
    assert text.count("```") == 2


def test_loss_curves_are_pictures_whatever_the_rows() -> None:
    full = loss_curve(ROWS, "small")
    assert full == loss_curve(ROWS, "small"), "the same rows give the same bytes: the version is their hash"
    odd = [{"step": 1, "train_loss": None}, {"step": 2, "train_loss": "nan"}, {"step": 3}]
    for rows in ([], odd, ROWS[:1], [{"step": s, "train_loss": 1.0} for s in range(9_999)]):
        assert loss_curve(rows, "x")[:8] == b"\x89PNG\r\n\x1a\n"
