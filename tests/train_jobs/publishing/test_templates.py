"""A model of others that can chat goes on as it was taught: its template and its end of a turn stay its own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cluster.core.config import PlinthConfig
from cluster.core.progress import Silent
from cluster.core.storage import Store
from tests.train_jobs.corpora import SECTION
from tests.train_jobs.publishing.model_folders import llama
from tests.train_jobs.recipes.in_process import InProcess
from train_jobs.publishing.base import take_base, template_of
from train_jobs.publishing.model_folder import inspect

pytestmark = pytest.mark.process

CONFIG = PlinthConfig(train=SECTION.model_copy(update={"steps": 2}))
TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}[{{ message['role'] }}]{{ message['content'] }}{{ eos_token }}"
    "{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}"
)
TALK = [{"role": "user", "content": "How often?"}, {"role": "assistant", "content": "Daily."}]


def test_conversations_are_written_and_ended_as_the_model_knows_them(home: Path, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    from train_jobs.recipes.chat import train_chat
    from train_jobs.recipes.language_model import open_model
    from train_jobs.recipes.turns import Turns

    del home
    store, given = Store(str(tmp_path / "store")), llama(tmp_path / "llama", TEMPLATE)
    base = take_base(CONFIG, store, inspect(given), {"source": "llama"}, Silent())
    turns, original = Turns(store, open_model(store, base)), AutoTokenizer.from_pretrained(given)
    assert turns.end_of_turn() == "</s>"
    for asked in (False, True):
        wanted = original.apply_chat_template(TALK, tokenize=False, add_generation_prompt=asked)
        assert turns.written(TALK, asked) == wanted
    ids, learnt = turns.encode(TALK)
    assert ids == original(original.apply_chat_template(TALK, tokenize=False), add_special_tokens=False).input_ids
    assert [token for token, counts in zip(ids, learnt, strict=True) if counts][-1] == original.eos_token_id

    data = tmp_path / "talk.jsonl"
    rows = [{"split": "test" if n % 4 == 0 else "train", "messages": TALK} for n in range(24)]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    made = train_chat(CONFIG, store, str(data), base, "talk", Silent(), rate=1e-3, workers=InProcess())
    folder = store.artefact(made)
    taught = AutoTokenizer.from_pretrained(folder)
    assert (taught.eos_token, taught.eos_token_id) == ("</s>", original.eos_token_id)
    assert taught.apply_chat_template(TALK, tokenize=False) == original.apply_chat_template(TALK, tokenize=False)
    before, after = (store.read_json(f"{store.artefact(m)}/generation_config.json") for m in (base, made))
    assert before["eos_token_id"] == [taught.convert_tokens_to_ids("<|eos|>"), original.eos_token_id]
    assert after["eos_token_id"] == before["eos_token_id"][::-1]


@pytest.mark.parametrize("files", [
    {"tokenizer_config.json": {"chat_template": "{{ bos_token }}x", "bos_token": {"content": '"<s>'}}},
    {"tokenizer_config.json": {"bos_token": '"<s>', "chat_template": [
        {"name": "tools", "template": "no"}, {"name": "default", "template": "{{ bos_token }}x"}]}},
    {"tokenizer_config.json": {}, "special_tokens_map.json": {"bos_token": '"<s>'},
     "chat_template.jinja": "{{ bos_token }}x"},
])  # fmt: skip
def test_a_template_is_found_wherever_it_stands_with_its_tokens(files: dict, tmp_path: Path) -> None:
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    for name, value in files.items():
        (tmp_path / name).write_text(value if isinstance(value, str) else json.dumps(value))
    found = ImmutableSandboxedEnvironment(trim_blocks=True).from_string(template_of(tmp_path))
    assert found.render(bos_token="<|bos|>") == '"<s>x'


def test_a_model_without_a_template_gets_none(tmp_path: Path) -> None:
    assert template_of(tmp_path) == ""
