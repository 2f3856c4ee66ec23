"""Adapting an index from its documents to a verdict: it learns, reuses, goes on after a kill, and changes nothing where
the gate says no."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from actors.policies.gate import GateResult
from cluster.core.config import PlinthConfig
from cluster.core.errors import BadInputError, ExitCode, PolicyRefusedError
from cluster.core.job_verbs import refused_if_not_passed
from cluster.core.progress import Silent
from cluster.core.sections.adapt import AdaptSection
from cluster.core.sections.data import IndexSection, RetrievalSection
from cluster.core.storage import INDEXES, LIVE, Collections, Store
from tests.train_jobs.adaptation.test_asking import corpus
from tests.train_jobs.corpora import SECTION, make_dataset
from tests.train_jobs.recipes.encoders import make_encoder, words_of
from tests.train_jobs.recipes.in_process import InProcess

pytestmark = pytest.mark.process  # torch takes seconds to import
TRAIN = SECTION.model_copy(update={"steps": 30})


def indexed(tmp_path: Path, **counts: Any) -> tuple[PlinthConfig, Store]:
    """A store with a dataset of pages and a live index of them, by a tiny embedder."""
    from data_jobs.indexing.update_index import update
    from data_jobs.retrieval.embedder import load_embedder

    documents = corpus(60)
    base = make_encoder(tmp_path / "tiny", words_of([f"{d.text} {d.title}" for d in documents]) | {".", ","})
    config = PlinthConfig(
        train=TRAIN, index=IndexSection(embedder=base, document_encoder="same", precision="fp32"),
        retrieval=RetrievalSection(reader="off"), adapt=AdaptSection(rank=8, learning_rate=3e-2, seed=3),
    )  # fmt: skip
    store = Store(str(tmp_path / "store"))
    dataset = make_dataset(store, documents)
    if counts:
        dataset = store.publish("datasets", "manual", _copy(store, dataset), run_key="x", counts=counts)
    inputs = {"dataset": f"{dataset.name}@{dataset.version}"}
    index = update(store, config.index, None, documents, (), load_embedder(config.index), inputs=inputs, name="main")
    Collections(store, "main").go_live("main", index.version, why="test")
    return config, store


def _copy(store: Store, dataset: Any) -> str:
    folder = store.staging("labelled")
    for entry in dataset.files:
        store.write(f"{folder}/{entry.path}", store.read(f"{store.artefact(dataset)}/{entry.path}"))
    store.write(f"{folder}/other.txt", b"another version")
    return folder


def live(store: Store) -> str | None:
    return store.alias(INDEXES, "main", LIVE)


def test_from_documents_to_a_verdict(home: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from train_jobs.adaptation import asking
    from train_jobs.recipes import adapt

    config, store = indexed(tmp_path)
    stock = live(store)
    subject = adapt.find_subject(config, store, "")
    ahead = adapt.look_ahead(subject, 0.1)
    assert ahead["questions_at_most"] == 40
    assert sum(ahead[f"documents_to_{side}"] for side in asking.SIDES) == ahead["documents"] == 60

    # Killed in the middle of asking back: what was asked is there, and is not asked again.
    monkeypatch.setattr(adapt, "PART", 20)
    ask, times = asking.round_trips, []

    def killed(searcher: Any, asked: Any, section: Any) -> Any:
        times.append(len(asked))
        if len(times) == 3:
            raise KeyboardInterrupt
        return ask(searcher, asked, section)

    monkeypatch.setattr(asking, "round_trips", killed)
    with pytest.raises(KeyboardInterrupt):
        adapt.make_questions(subject, Silent())
    assert times == [20, 20, 20]
    questions = adapt.make_questions(subject, Silent())
    assert sum(times[3:]) == questions.counts["made"] - 40
    assert adapt.make_questions(subject, Silent()).version == questions.version
    kept = sum(questions.counts[f"questions_to_{side}"] for side in asking.SIDES)
    assert kept == questions.counts["made"] - questions.counts["not_found_again"] > 60

    # Too few documents that judge: refused, nothing changes, and it counts as a try.
    workers = InProcess()
    few = PlinthConfig(**{**dict(config), "adapt": config.adapt.model_copy(update={"min_documents": 50})})
    verdict = adapt.adapt(adapt.find_subject(few, store, ""), Silent(), workers=workers)
    assert refused_if_not_passed(verdict) == ExitCode.REFUSED
    assert live(store) == stock
    folder = Path(store.artefact(verdict))
    report = json.loads((folder / "report.json").read_text())
    assert "too few held-out documents" in report["decision"]["reason"]
    assert report["tries"] == 1
    assert report["shipped"]["questions"] == 80
    assert report["decision"]["reason"] in (folder / "card.md").read_text()
    assert (folder / "before_and_after.png").read_bytes().startswith(b"\x89PNG")

    # What the gate lets through answers; the figures are taken at the level of a second try.
    monkeypatch.setattr(adapt, "decide", lambda report, section: GateResult(True, (), "passed: as the test wants"))
    people = tmp_path / "asked.jsonl"
    held_out = next(d.id for d in subject.documents if asking.side_of(d.id, 0.3) == asking.JUDGE)
    learnt_of = next(d.id for d in subject.documents if asking.side_of(d.id, 0.3) == asking.LEARN)
    rows = [{"question": "Which building?", "document": name} for name in (held_out, learnt_of)]
    people.write_text("".join(json.dumps(row) + "\n" for row in rows))
    passed = adapt.adapt(subject, Silent(), people=people, workers=InProcess())
    report = json.loads((Path(store.artefact(passed)) / "report.json").read_text())
    assert report["tries"] == 2
    assert report["held_out"]["level"] == 0.975
    assert report["people"]["questions"] == 1
    assert report["counts"]["people_not_held_out"] == 1
    adapted = store.manifest(INDEXES, "main", LIVE)
    assert adapted.version != stock
    assert adapted.inputs["adapted_from"] == f"main@{stock}"

    # Again: the same subject beneath what it learnt, and nothing is made anew (no workers: training would want Ray).
    again = adapt.adapt(adapt.find_subject(config, store, ""), Silent(), people=people, workers=None)
    assert (again.version, live(store)) == (passed.version, adapted.version)
    store.roll_back_alias(INDEXES, "main", LIVE)
    assert live(store) == stock


def test_documents_that_not_everybody_may_read_are_refused(home: object, tmp_path: Path) -> None:
    from train_jobs.recipes.adapt import find_subject

    config, store = indexed(tmp_path, kept=60, access={"": 50, "staff": 10})
    with pytest.raises(PolicyRefusedError, match="access"):
        find_subject(config, store, "")


def test_people_s_questions_are_checked_line_by_line(tmp_path: Path) -> None:
    from train_jobs.adaptation.judging import asked_by_people

    path = tmp_path / "asked.jsonl"
    for line, told in (('{"question": "x"}', ":1: not a row"), ("[1]", ":1: not a row"), ("", "holds no question"),
                       ('{"question": "x", "document": "gone"}', "no document 'gone'")):  # fmt: skip
        path.write_text(line + "\n")
        with pytest.raises(BadInputError, match=told):
            asked_by_people(path, {"here"})
    path.write_text('{"question": "Who?", "document": "here", "answers": ["Ann"]}\n')
    (one,) = asked_by_people(path, {"here"})
    assert one.answers == ("Ann",)


def test_questions_find_passages_that_words_do_not_tell(home: object, tmp_path: Path) -> None:
    """Questions whose vectors are turned by the same unknown matrix of a small rank, also those never learnt."""
    from train_jobs.models.encoders import QuestionMapSpec
    from train_jobs.recipes.adapt import KEY, KIND, files_of
    from train_jobs.recipes.training import Training, carry_out, request

    rng = np.random.default_rng(0)

    def unit(rows: np.ndarray) -> np.ndarray:
        return rows / np.linalg.norm(rows, axis=-1, keepdims=True)

    passages = unit(rng.normal(size=(200, 32))).astype(np.float32)
    turn = rng.normal(size=(32, 4)) @ rng.normal(size=(4, 32)) / 6
    arrays: dict[str, np.ndarray] = {"vectors": passages.astype(np.float16)}
    for side, rows in (("train", range(150)), ("held_out", range(150, 200))):
        asked = unit(passages[list(rows)] + passages[list(rows)] @ turn)
        others = np.array([[row, *rng.choice(np.delete(np.arange(200), row), 20, replace=False)] for row in rows])
        arrays |= {f"{side}.questions": asked.astype(np.float32), f"{side}.passages": others,
                   f"{side}.words": np.zeros(others.shape, np.float32)}  # fmt: skip
    store = Store(str(tmp_path / "store"))
    section = TRAIN.model_copy(update={"steps": 150})
    wanted = request(KEY, "asked_passages", KIND, "main", {}, section, None)
    made = carry_out(
        Training(wanted, {}, QuestionMapSpec(32, 8), arrays, 0, None, 1e-2, 150, lambda done: (files_of(done), {}),
                 150, 64, {"rows": 64}),
        section, store, Silent(), InProcess(),
    )  # fmt: skip
    assert made.counts["held_out_mrr"] > made.counts["held_out_mrr_at_start"] + 0.05
    assert made.counts["held_out_loss"] < made.counts["held_out_loss_at_start"]


def test_any_number_of_workers_takes_the_same_step() -> None:
    import torch

    from train_jobs.models.encoders import QuestionMapSpec
    from train_jobs.objectives.asked_passages import AskedPassages, AskedPassagesObjective

    rng = np.random.default_rng(1)
    arrays = {"questions": rng.normal(size=(5, 8)).astype(np.float32), "passages": rng.integers(-1, 9, (5, 4)),
              "words": rng.random((5, 4)).astype(np.float32)}  # fmt: skip
    arrays["passages"][:, 0] = np.arange(5)
    batches = AskedPassages(rng.normal(size=(9, 8)).astype(np.float16), arrays, 5, 0)
    objective, network = AskedPassagesObjective(), QuestionMapSpec(8, 2).build(0)
    torch.nn.init.normal_(network.up)  # type: ignore[arg-type]
    whole = objective.share_of_loss(network, batches.batch(0))
    shares = [objective.share_of_loss(network, batches.batch(0, rank, 3)) for rank in range(3)]
    assert sum(share.item() for share in shares) == pytest.approx(whole.item(), rel=1e-5)
    empty = AskedPassages(batches.vectors, {k: v[:1] for k, v in arrays.items()}, 5, 0).batch(0, 1, 2)
    assert objective.share_of_loss(network, empty).item() == 0
