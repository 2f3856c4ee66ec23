"""`plinth models add`: real tiny models of others become tiers; those that do not fit together are refused."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import pytest

from actors.registry.models import Registry
from cluster.cli.main import main
from cluster.core.errors import BadInputError, UnsupportedError
from cluster.core.home import Home
from cluster.core.storage import Store
from tests.train_jobs.publishing.model_folders import byte_tokenizer, gpt2, llama
from train_jobs.publishing.model_folder import inspect
from train_jobs.publishing.model_probe import examine, probe

pytestmark = pytest.mark.process

TEMPLATE = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
ESCAPE = "{{ ''.__class__.__mro__[1].__subclasses__() }}"
ENDLESS = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return llama(tmp_path_factory.mktemp("llama") / "tiny-llama", template=TEMPLATE)


def copy(folder: Path, to: Path) -> Path:
    shutil.copytree(folder, to)
    return to


def edit(folder: Path, **changes: object) -> Path:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    return folder


@pytest.mark.slow
@pytest.mark.ci
def test_a_llama_and_a_gpt2_become_tiers(
    good: Path, tmp_path: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (good / "README.md").write_text("---\nlicense: mit\n---\n")
    assert main(["models", "add", str(good), "--tier", "tiny", "--knowledge-cutoff", "2024-06-01", "--json"]) == 0
    added = json.loads(capsys.readouterr().out)
    facts = added["metadata"]
    assert (facts["format"], facts["engine"], facts["context_tokens"]) == ("text", "openvino", 256)
    assert (facts["license"], facts["knowledge_cutoff"], facts["chat_template"]) == ("mit", "2024-06-01", True)
    assert (added["aliases"], added["verdict"]) == (["candidate"], "not judged")
    assert main(["models", "add", str(gpt2(tmp_path / "gpt2")), "--tier", "tiny-gpt2"]) == 0
    said = capsys.readouterr()
    assert "GPT2LMHeadModel" in said.out
    assert said.err == ""
    registry = Registry(Store(Home(home).store_uri))
    served = registry.served("tiny-gpt2")
    assert served is not None
    assert not served.champion, "not through the gate: by name only"
    assert registry.version("tiny-gpt2").metadata["engine"] == "transformers"


def test_an_architecture_is_named(good: Path, tmp_path: Path) -> None:
    unknown = edit(copy(good, tmp_path / "a"), architectures=["MambaNine"], model_type="mamba9")
    with pytest.raises(UnsupportedError, match="MambaNine"):
        examine(unknown)
    classifier = edit(copy(good, tmp_path / "b"), architectures=["LlamaForSequenceClassification"])
    with pytest.raises(UnsupportedError, match=r"LlamaForSequenceClassification.*LlamaForCausalLM"):
        examine(classifier)


def test_weights_that_do_not_make_the_model(good: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=r"layers\.2"):
        examine(edit(copy(good, tmp_path / "a"), num_hidden_layers=3))
    with pytest.raises(BadInputError, match=r"shape|size"):
        examine(edit(copy(good, tmp_path / "b"), intermediate_size=48))


def test_weights_that_are_no_numbers(good: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = copy(good, tmp_path / "a")
    tensors = load_file(folder / "model.safetensors")
    tensors["model.norm.weight"][0] = math.nan
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(BadInputError, match="not finite"):
        examine(folder)


def test_a_tokenizer_of_another_model(good: Path, tmp_path: Path) -> None:
    folder = copy(good, tmp_path / "a")
    byte_tokenizer(folder, tokens=400)
    with pytest.raises(BadInputError, match="ids up to 399, the model embeds 300"):
        examine(folder)


@pytest.mark.parametrize(("template", "why"), [(ESCAPE, "SecurityError"), ("{% for %}", "TemplateSyntaxError")])
def test_chat_templates_run_in_the_sandbox(good: Path, tmp_path: Path, template: str, why: str) -> None:
    folder = copy(good, tmp_path / "a")
    (folder / "chat_template.jinja").write_text(template)
    with pytest.raises(BadInputError, match=why):
        examine(folder)


@pytest.mark.slow
def test_a_template_without_end_ends(good: Path, tmp_path: Path) -> None:
    folder = copy(good, tmp_path / "a")
    (folder / "chat_template.jinja").write_text(ENDLESS)
    with pytest.raises(BadInputError, match="took over 20 s"):
        probe(inspect(folder), timeout_s=20)


def test_nothing_is_left_of_a_refused_model(
    good: Path, tmp_path: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = edit(copy(good, tmp_path / "a"), num_hidden_layers=3)
    assert main(["models", "add", str(bad), "--tier", "tiny", "--json"]) == 3
    assert "plinth-add-" not in capsys.readouterr().out, "the user is not told of folders of ours"
    assert Store(Home(home).store_uri).names("models") == []
