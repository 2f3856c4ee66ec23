"""A model that writes from evidence, taught on a tiny Llama: what it learns from, its name, and that it resumes."""

from __future__ import annotations

from pathlib import Path

import pytest

from actors.registry.models import Registry
from cluster.core.config import PlinthConfig
from cluster.core.errors import BadInputError
from cluster.core.progress import Silent
from cluster.core.sections.train import GateSection
from cluster.core.storage import Store
from tests.train_jobs.corpora import SECTION
from tests.train_jobs.recipes.grounded_examples import example, make_examples
from tests.train_jobs.recipes.in_process import InProcess
from tests.train_jobs.recipes.language_models import make_checkpoint
from train_jobs.answering.chat import NOT_KNOWN
from train_jobs.answering.faithful import faithful
from train_jobs.answering.grounded import Evidence, Statements
from train_jobs.recipes.grounded_rows import conversations, shortened


def test_what_is_taught_is_what_may_be_said() -> None:
    made = list(conversations([example(number, "train") for number in range(30)] * 2))
    assert len(made) == 30, "each question once"
    for messages, row in zip(made, (example(number, "train") for number in range(30)), strict=True):
        assert [message["role"] for message in messages] == ["system", "user", "assistant"]
        said = messages[2]["content"]
        statements = Statements([Evidence(**one) for one in row["evidence"]])
        statements.feed(said, final=True)
        if row["answerable"]:
            assert (statements.own, statements.replaced, statements.refused) == (1, 0, False)
        else:
            assert said == NOT_KNOWN
            assert statements.refused


@pytest.mark.parametrize(
    ("text", "short"),
    [
        ("However, the library (opened by Carnegie) was closed in 1990.", "The library was closed in 1990."),
        ("The library was closed in 1990.", "The library was closed in 1990."),
        ("The pool (not the sauna) is open on Mondays.", "The pool (not the sauna) is open on Mondays."),
        ("It is (un)used.", "It is (un)used."),
    ],
)
def test_sentences_are_shortened_where_that_says_nothing_else(text: str, short: str) -> None:
    assert shortened(Evidence("Library", text)) == short
    assert faithful(short, text, "Library")


@pytest.mark.process  # torch takes seconds to import
def test_it_is_taught_judged_and_published_under_the_name_it_earned(home: Path, tmp_path: Path) -> None:
    from train_jobs.recipes.grounded import publish_grounded, train_grounded

    store = Store(str(tmp_path / "store"))
    config = PlinthConfig(
        train=SECTION.model_copy(update={"steps": 3, "context_tokens": 1024}),
        gate=GateSection(questions=20, unanswerable=10),
    )
    base, examples = make_checkpoint(store, context_tokens=1024), make_examples(store)
    workers = InProcess()
    made = train_grounded(config, store, examples, base, "tiny-writer", Silent(), rate=2e-2, workers=workers)
    assert made.inputs == {"examples": f"tiny@{examples.version}", "base": f"tiny-base@{base.version}"}
    assert made.counts["held_out_loss"] < made.counts["held_out_loss_at_start"]
    assert made.config["lora_rank"] == 8
    again = train_grounded(config, store, examples, base, "tiny-writer", Silent(), rate=2e-2, workers=workers)
    assert (again.version, len(workers.plans)) == (made.version, 1), "a finished run is reused"
    built = publish_grounded(config, store, made, examples, Silent())
    assert not built.gate.passed, "three steps teach nothing"
    assert built.model.name == "tiny-writer"
    assert "tiny" not in Registry(store).names(), "the pointing model's name was not earned"
    report = store.read_json(f"{store.artefact(built.judged)}/report.json")
    assert report["contenders"]["quote"]["named"] == 0
    assert report["pace"]["first_token_s"] > 0
    facts = Registry(store).version("tiny-writer", built.model.version).metadata
    assert (facts["format"], facts["weights"], facts["engine"]) == ("grounded", "int8", "openvino")
    assert publish_grounded(config, store, made, examples, Silent()).model.version == built.model.version


def test_examples_of_an_earlier_kind_are_refused(home: Path, tmp_path: Path) -> None:
    from train_jobs.recipes.grounded import rows_of

    store = Store(str(tmp_path / "store"))
    folder = store.staging("old")
    for side in ("train", "held_out"):
        store.write(f"{folder}/{side}.jsonl", b'{"question": "x"}\n')
    old = store.publish("examples", "old", folder, run_key="old")
    with pytest.raises(BadInputError, match="plinth train examples"):
        rows_of(store, old, None)  # type: ignore[arg-type]
