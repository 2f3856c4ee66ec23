"""Every recipe asks before it starts over a run that earlier code began, and goes on from it where it may."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cluster.core.config import PlinthConfig
from cluster.core.entry import add_common
from cluster.core.errors import UsageError
from cluster.core.progress import Silent
from cluster.core.storage import Store
from tests.train_jobs.corpora import PARTS, SECTION, make_dataset
from tests.train_jobs.recipes.encoders import make_encoder
from tests.train_jobs.recipes.grounded_examples import make_examples
from tests.train_jobs.recipes.language_models import make_checkpoint
from train_jobs.recipes.commands import RECIPES, ready
from train_jobs.trainer.plan import RunPlan
from train_jobs.trainer.unfinished import CodeChange

pytestmark = pytest.mark.process  # torch takes seconds to import
CONFIG = PlinthConfig(train=SECTION)

TRAINED = [verb for verb in RECIPES if verb.name not in ("router", "safety")]  # fits of seconds: nothing to go on from


class Interrupted:
    """Workers that are interrupted at a checkpoint of step 7; ``found`` is what lay in the run's folder before."""

    size = 1

    def __init__(self, store: Store) -> None:
        self.store, self.found = store, list[str]()

    def carry_out(self, plan: RunPlan, progress: Any) -> None:
        del progress
        self.found = [
            Path(path).parent.name for path in self.store.fs.glob(f"{plan.folder}/checkpoints/*/manifest.json")
        ]
        self.store.write(f"{plan.folder}/checkpoints/00000007/manifest.json", b"{}")
        raise KeyboardInterrupt


def rows(folder: Path) -> str:
    """Rows of which every recipe finds what it reads."""
    from PIL import Image

    Image.new("RGB", (8, 8), "red").save(folder / "red.png")
    made = [
        {
            "split": "test" if number % 2 else "train", "messages": [
                {"role": "user", "content": part}, {"role": "assistant", "content": f"the {part}"}
            ],
            "prompt": part, "chosen": "yes", "rejected": "no", "query": part, "positive": f"the {part}", "text": part,
            "question": f"What is the {part}?", "answerable": True, "answer": part,
            "label": "even" if number % 4 < 2 else "odd", "file": "red.png", "caption": part,
        }
        for number, part in enumerate(PARTS * 5)
    ]  # fmt: skip
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in made))
    return str(path)


def recipe(name: str, store: Store, folder: Path) -> Callable[..., Any]:
    from train_jobs.recipes import (
        chat,
        classifier,
        distill,
        document_encoder,
        embedder,
        grounded,
        image_text,
        masked,
        preference,
        reader,
    )  # fmt: skip

    if name == "document-encoder":
        encoder, dataset = make_encoder(folder / "encoder", {*PARTS, "the"}), make_dataset(store)
        return lambda **how: document_encoder.train_document_encoder(
            CONFIG, store, dataset, encoder, "made", Silent(), **how
        )  # fmt: skip
    if name == "distill":
        teacher, dataset = make_checkpoint(store), make_dataset(store)
        return lambda **how: distill.distill(CONFIG, store, teacher, dataset, "made", Silent(), **how)
    if name == "grounded":
        writer, examples = make_checkpoint(store, context_tokens=1024), make_examples(store)
        return lambda **how: grounded.train_grounded(CONFIG, store, examples, writer, "made", Silent(), **how)
    of_text = {"chat": chat.train_chat, "preference": preference.train_preference}
    of_encoders = {
        "embedder": embedder.train_embedder, "classifier": classifier.train_classifier, "masked": masked.train_masked,
        "image-text": image_text.train_image_text, "reader": reader.train_reader,
    }  # fmt: skip
    base: Any = make_checkpoint(store) if name in of_text else make_encoder(folder / "encoder", {*PARTS, "the"})
    train: Any = (of_text | of_encoders)[name]
    return lambda **how: train(CONFIG, store, rows(folder), base, "made", Silent(), **how)


@pytest.mark.parametrize("name", [verb.name for verb in TRAINED])
def test_a_recipe_asks_about_what_earlier_code_began(
    name: str, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    del home
    store = Store(str(tmp_path / "store"))
    train = recipe(name, store, tmp_path)
    workers = Interrupted(store)

    def again(change: CodeChange) -> None:
        with pytest.raises(KeyboardInterrupt):
            train(workers=workers, code_change=change)

    again("ask")
    assert workers.found == []
    again("ask")
    assert workers.found == ["00000007"], "the same code goes on without a question"
    monkeypatch.setattr("cluster.core.run_keys.source_hash", lambda *modules: "another")
    with pytest.raises(UsageError, match=r"step 7 .*--allow-code-change.*--fresh"):
        train(workers=workers, code_change="ask")
    again("resume")
    assert workers.found == ["00000007"]
    again("fresh")
    assert workers.found == []


@pytest.mark.parametrize(
    ("given", "change"), [([], "ask"), (["--allow-code-change"], "resume"), (["--fresh"], "fresh")]
)
def test_each_verb_hands_the_answer_on(home: Path, tmp_path: Path, given: list[str], change: CodeChange) -> None:
    del home
    data = tmp_path / "rows.jsonl"
    data.touch()
    for verb in TRAINED:
        parser = argparse.ArgumentParser()
        verb.add_arguments(parser)
        add_common(parser)
        args = parser.parse_args([*given, *(["--data", str(data)] if verb.name not in ("distill", "grounded") else [])])
        assert ready(args)[2]["code_change"] == change
