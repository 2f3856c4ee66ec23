"""Making examples on a real cluster: split by document, the same rows for any number of workers, reused, refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from cluster.core.config import PlinthConfig, configured
from cluster.core.records import Document, Manifest
from cluster.core.storage import Store
from data_jobs.corpus.blocks import DOCUMENT_SCHEMA, parquet_bytes
from data_jobs.corpus.splits import is_held_out
from train_jobs.examples.rows import KINDS

pytestmark = pytest.mark.live
ROOT = Path(__file__).resolve().parents[2]
SHARE = 0.3
SETTINGS = [
    "train.min_documents=30", "train.examples=80", f"train.held_out={SHARE}", "gate.questions=30",
    "gate.unanswerable=10", "train.vocab_size=512", "index.embed_workers=2",
]  # fmt: skip

DRIVER = """
import sys
import ray
from cluster.core.config import PlinthConfig, configured
from cluster.core.errors import PlinthError
from cluster.core.progress import Silent
from cluster.core.storage import Store
from data_jobs.build_index import build
from train_jobs.make_examples import make_examples
from train_jobs.data.tokenizer import train_tokenizer

store, cpus, settings = Store(sys.argv[1]), int(sys.argv[3]), sys.argv[4:]
config = configured(PlinthConfig(), settings)
memory = dict(object_store_memory=150_000_000)
ray.init(num_cpus=cpus, include_dashboard=False, _temp_dir=sys.argv[2], log_to_driver=False, **memory)
dataset = store.manifest("datasets", "notes", "latest")
index = build(config, store, dataset, Silent())
store.move_alias("indexes", index.name, "live", index.version, why="test")
tokenizer = train_tokenizer(config, store, dataset, Silent())
try:
    made = make_examples(config, store, dataset, index, tokenizer, Silent())
    again = make_examples(config, store, dataset, index, tokenizer, Silent())
    print("made", made.version, again.created_at == made.created_at, flush=True)
except PlinthError as error:
    print("refused", type(error).__name__, error, flush=True)
ray.shutdown()
"""
PARTS = ("pump", "sail", "rudder", "anchor", "engine", "mast", "keel", "hatch", "winch", "compass")
WORK = (
    "Grease the {0} every {1} hours and write the date into log number {1}.",
    "Replace the {0} bolt of size {1} before a long passage.",
    "Never paint the {0} with varnish {1} while the wood is still wet.",
    "Store the spare {0} in locker {1} under the port berth.",
)


def notes(number: int) -> list[Document]:
    made = []
    for n in range(number):
        text = " ".join(line.format(PARTS[n % len(PARTS)], 100 + 7 * n + k) for k, line in enumerate(WORK))
        asked = (f"how often must I look after the {PARTS[n % len(PARTS)]} of boat {n}",) if n % 3 == 0 else ()
        made.append(Document(f"note-{n}.md", f"Note {n}", text, f"note-{n}.md", questions=asked))
    return made


def dataset(store: Store, number: int) -> Manifest:
    staging = store.staging("dataset")
    rows = [document.to_dict() for document in notes(number)]
    store.write(f"{staging}/documents-00000.parquet", parquet_bytes(rows, DOCUMENT_SCHEMA))
    made = store.publish("datasets", "notes", staging, run_key=f"notes{number}", counts={"kept": number})
    store.move_alias("datasets", "notes", "latest", made.version, why="test")
    return made


def drive(home: Path, cpus: int, *settings: str) -> list[str]:
    environ = {
        **os.environ,
        "PLINTH_HOME": str(home),
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "PYTHONPATH": str(ROOT),
    }
    environ.pop("RAY_ADDRESS", None)
    arguments = [str(home / "store"), f"/tmp/px{os.getpid()}{cpus}", str(cpus), *SETTINGS, *settings]
    done = subprocess.run(
        [sys.executable, "-c", DRIVER, *arguments],
        env=environ,
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.strip().splitlines()[-1].split(maxsplit=2)


@pytest.mark.slow
def test_rows_are_split_by_document_and_do_not_depend_on_the_workers(tmp_path: Path) -> None:
    versions = []
    for cpus in (1, 2):
        home = tmp_path / f"home{cpus}"
        home.mkdir()
        store = Store(str(home / "store"))
        dataset(store, 60)
        said, version, reused = drive(home, cpus)
        assert (said, reused) == ("made", "True")
        versions.append(version)
    assert versions[0] == versions[1]
    folder = Path(store.artefact(store.manifest("examples", "small", versions[1])))
    rows = {
        name: [json.loads(line) for line in (folder / f"{name}.jsonl").read_text().splitlines()]
        for name in ("train", "held_out")
    }
    assert len(rows["train"]) >= 60  # many notes here are too alike to be told apart
    from train_jobs.make_examples import VERSIONS  # imports ray

    asked = Counter(row["question"] for row in rows["train"] if row["answerable"])
    assert asked
    assert all(number % VERSIONS == 0 for number in asked.values())
    assert len(rows["held_out"]) >= 25
    for split, made in rows.items():
        assert {row["split"] for row in made} == {split}
        assert {row["kind"] for row in made} <= set(KINDS)
        assert {row["answerable"] for row in made} == {True, False}
        for row in made:
            if row["document"]:
                assert is_held_out(row["document"], SHARE) == (split == "held_out")
            if row["answerable"] and split == "train":
                assert row["completion"].startswith("<|s")
            if not row["answerable"]:
                assert row["completion"] == "<|none|><|eos|>"
    assert json.loads((folder / "report.json").read_text())["train"]["rows"] == len(rows["train"])


def test_too_few_documents_are_refused(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "store"))
    dataset(store, 40)
    config = configured(PlinthConfig(), SETTINGS)
    assert config.train.min_documents == 30
    from cluster.core.errors import BadInputError
    from cluster.core.progress import Silent
    from train_jobs.make_examples import make_examples

    made = store.manifest("datasets", "notes", "latest")
    too_many = configured(config, ["train.min_documents=41"])
    with pytest.raises(BadInputError, match="40 documents are too few"):
        make_examples(too_many, store, made, made, made, Silent())
