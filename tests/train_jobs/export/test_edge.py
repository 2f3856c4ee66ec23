"""A model in 8 bits that answers alone: what it says, what it costs, and that it needs no Ray and no network."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from cluster.cli.main import main
from cluster.core.errors import BadInputError, IntegrityError
from cluster.core.progress import Silent
from tests.train_jobs.corpora import flip_a_bit
from tests.train_jobs.publishing.model_folders import gpt2, llama
from train_jobs.export.edge import read_facts

pytestmark = pytest.mark.process

TEMPLATE = "{{ bos_token }}{% for m in messages %}{{ m['content'] }}{% endfor %}"
ALONE = """
import sys
opened = []
sys.addaudithook(lambda event, args: opened.append(event) if event.startswith("socket.") else None)
from cluster.cli.main import main
code = main(sys.argv[1:])
assert "ray" not in sys.modules and "torch" not in sys.modules, [m for m in ("ray", "torch") if m in sys.modules]
assert not opened, opened
sys.exit(code)
"""


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("edge")
    llama(folder / "model", template=TEMPLATE)
    assert main(["edge", "export", str(folder / "model"), "--output", str(folder / "out"), "--json"]) == 0
    return folder / "out"


def test_it_answers_without_ray_and_without_a_network(exported: Path) -> None:
    words = ["edge", "run", str(exported), "How do I copy a folder?", "--tokens", "9", "--json"]
    done = subprocess.run([sys.executable, "-c", ALONE, *words], capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert 1 <= said["tokens"] <= 9
    assert said["bytes"] == sum(path.stat().st_size for path in exported.iterdir())
    assert said["rss_bytes"] > 50_000_000
    assert said["first_token_s"] > 0


def test_what_8_bits_cost_is_measured(exported: Path) -> None:
    facts = read_facts(exported)
    assert facts["agreement"]["tokens"] == 4 * 32
    assert facts["agreement"]["share"] > 0.9
    weights = (exported / "openvino_model.bin").stat().st_size
    assert weights < facts["original_bytes"] / 3


def test_an_export_is_there_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from train_jobs.export import edge, openvino_graph

    asked: list[Path] = []

    def export(hf_folder: Path, out: Path, int8: bool) -> None:
        assert int8
        assert list(out.iterdir()) == [], f"what {hf_folder} left there"
        (out / "openvino_model.bin").write_bytes(b"weights")

    def agreement(hf_folder: Path, out: Path) -> dict[str, int]:
        asked.append(out)
        if len(asked) == 1:
            raise KeyboardInterrupt
        return {"tokens": 1}

    monkeypatch.setattr(openvino_graph, "export", export)
    monkeypatch.setattr(edge, "agreement", agreement)
    (tmp_path / "model").mkdir()
    out = tmp_path / "out"
    out.mkdir()
    (tmp_path / ".out.partial").mkdir()
    (tmp_path / ".out.partial" / "of a killed one").write_text("")
    with pytest.raises(KeyboardInterrupt):
        edge.export_edge(tmp_path / "model", out, {}, Silent())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "out"]
    assert list(out.iterdir()) == []
    edge.export_edge(tmp_path / "model", out, {}, Silent())
    assert sorted(path.name for path in out.iterdir()) == ["edge.json", "openvino_model.bin"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "out"]
    assert read_facts(out)["agreement"] == {"tokens": 1}
    with pytest.raises(BadInputError, match="not empty"):
        edge.export_edge(tmp_path / "model", out, {}, Silent())


@pytest.mark.parametrize("file", ["openvino_model.bin", "tokenizer.json"])
def test_a_changed_file_is_refused(file: str, exported: Path, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(exported, tmp_path / "copy")
    flip_a_bit(tmp_path / "copy" / file)
    with pytest.raises(IntegrityError, match=file):
        read_facts(tmp_path / "copy")


def test_a_file_that_was_added_is_refused(exported: Path, tmp_path: Path) -> None:
    """A template or end tokens beside the model would change its answers."""
    import shutil

    shutil.copytree(exported, tmp_path / "copy")
    (tmp_path / "copy" / "other.jinja").write_text("{{ messages }}")
    with pytest.raises(IntegrityError, match=r"other\.jinja"):
        read_facts(tmp_path / "copy")


def test_what_is_no_exported_model(
    exported: Path, tmp_path: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(BadInputError, match="plinth edge export"):
        read_facts(tmp_path)
    assert main(["edge", "export", str(exported.parent / "model"), "--output", str(exported)]) == 3
    assert "not empty" in capsys.readouterr().err
    assert main(["edge", "export", str(gpt2(tmp_path / "gpt2")), "--output", str(tmp_path / "o")]) == 3
    assert "GPT2LMHeadModel" in capsys.readouterr().err
