"""The reader: what it learns, what it publishes, and that what serves it says the same."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest

from cluster.core.config import PlinthConfig
from cluster.core.errors import BadInputError
from cluster.core.progress import Silent
from cluster.core.storage import Store
from tests.train_jobs.corpora import SECTION
from tests.train_jobs.recipes.encoders import make_encoder, words_of
from tests.train_jobs.recipes.in_process import InProcess

pytestmark = pytest.mark.process  # torch takes seconds to import
ANIMALS, PLACES = ("dog", "cat", "fox", "hen", "owl", "cow"), ("paris", "rome", "oslo", "bonn", "lima", "cairo")


@pytest.fixture
def store(home, tmp_path) -> Store:
    return Store(str(tmp_path / "store"))


def config(steps: int, **changes: object) -> PlinthConfig:
    return PlinthConfig(train=SECTION.model_copy(update={"steps": steps, **changes}))


def rows(count: int) -> list[dict]:
    """Where is an animal? A text tells of one or of another animal, and a third lives elsewhere."""
    rng, found = random.Random(3), []
    for number in range(count):
        asked, other = rng.sample(ANIMALS, 2)
        answerable = number % 2 == 0
        place = rng.choice(PLACES)
        text = f"the {asked if answerable else other} lives in {place} now"
        row = {"question": f"where is the {asked}", "title": "animals", "text": text, "answerable": answerable,
               "document": f"d{number // 4}", "split": "test" if number // 4 % 5 == 0 else "train"}  # fmt: skip
        found.append(row | ({"answer": place} if answerable else {}))
    return found


def written(path: Path, made: list[dict]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in made))
    return str(path)


def test_a_reader_learns_answers_and_spans_and_serves_what_it_learnt(store: Store, tmp_path: Path) -> None:
    from data_jobs.retrieval.reader import Window, load_reader
    from train_jobs.recipes.reader import train_reader

    data = written(tmp_path / "rows.jsonl", rows(400))
    base = make_encoder(tmp_path / "tiny", words_of([*ANIMALS, *PLACES, "where is the lives in now animals"]))
    made = train_reader(config(60), store, data, base, "toy", Silent(), rate=5e-3, layers=1, licence="CC0-1.0",
                        workers=InProcess())  # fmt: skip
    counts = made.counts
    assert counts["held_out_accuracy_at_start"] < 0.75 < 0.95 < counts["held_out_accuracy"]
    assert counts["held_out_span"] > 0.95
    assert counts["balanced_accuracy"] > 0.9
    assert counts["agreement"] < 0.03
    folder = Path(store.artefact(made))
    about = json.loads((folder / "reader.json").read_text())
    assert about["licence"] == "CC0-1.0"
    assert json.loads((folder / "config.json").read_text())["num_hidden_layers"] == 1
    reader = load_reader(str(folder), threads=1)
    assert reader is not None
    text = "the fox lives in oslo now"
    yes, no = reader.read("where is the fox", [Window("animals", text), Window("animals", text.replace("fox", "hen"))])
    assert yes.answerable > 0.8 > 0.2 > no.answerable
    assert yes.relevance > no.relevance
    assert text[yes.start : yes.end] == "oslo"

    again = train_reader(config(1), store, data, "toy", "toy-two", Silent(), rate=1e-6, workers=InProcess())
    assert again.counts["held_out_accuracy_at_start"] > 0.95  # it goes on from the published one
    assert again.inputs["base"] == f"toy@{made.version}"


def test_what_serves_computes_what_was_trained(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import save_file

    from data_jobs.retrieval.bert import packed, unpacked
    from data_jobs.retrieval.reading import FORMAT, Encoded, WindowReader
    from train_jobs.models.encoders import EncoderSpec

    folder = tmp_path / "tiny"
    make_encoder(folder, words_of(["a b c d e f g"]), hidden=64)
    settings = json.loads((folder / "config.json").read_text()) | {"type_vocab_size": 4}
    network = EncoderSpec(settings, head="reader").build(7).eval()
    weights = packed({name: weight.detach() for name, weight in network.named_parameters()})
    network.load_state_dict(unpacked(weights))
    save_file(weights, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(settings))
    about = {"format": FORMAT, "temperature": 1.0, "limits": {"question": 8, "title": 4, "total": 32}}
    (folder / "reader.json").write_text(json.dumps(about))
    pairs = [
        Encoded([2, 5, 3, 6, 3, 7, 8, 9, 3], [0, 2, 0, 1, 1, 1, 3, 1, 1], 5, []),
        Encoded([2, 5, 3, 3, 9, 3], [0, 0, 0, 1, 1, 1], 4, []),
    ]
    ids = torch.tensor([pairs[0].ids, pairs[1].ids + [0] * 3])
    types = torch.tensor([pairs[0].types, pairs[1].types + [0] * 3])
    with torch.no_grad():
        answers, spans = network(ids, torch.tensor([[True] * 9, [True] * 6 + [False] * 3]), types)
    for precision, near in (("fp32", 1e-4), ("int8", 0.4)):
        found, ends = WindowReader(folder, 1, precision).logits(pairs)
        assert np.allclose(found, answers, atol=near)
        assert np.allclose(ends[0], spans[0], atol=4 * near)


def test_rows_are_read_or_refused_by_name(tmp_path: Path) -> None:
    from data_jobs.retrieval.reading import Encoded
    from train_jobs.recipes.reader import parse, span_of, tokens_of
    from train_jobs.recipes.rows import BadRowError

    row = {"question": "where?", "text": "in Rome", "answerable": True, "answer": "Rome"}
    assert parse(row)["span"] == (3, 7)
    assert parse({**row, "answer": [0, 2]})["span"] == (0, 2)
    assert parse({**row, "answerable": False})["span"] is None
    assert parse({**row, "title": "Italy"})["key"] == "Italy"
    for changes, what in (
        ({"answer": "Oslo"}, "not in the text"), ({"answer": [5, 99]}, "7 characters"),
        ({"answerable": 1}, "neither true nor false"), ({"answer": 3}, "neither a text"),
    ):  # fmt: skip
        with pytest.raises(BadRowError, match=what):
            parse({**row, **changes})
    assert span_of("", "text") is None
    pair = Encoded([], [], 10, [(0, 2), (3, 5), (5, 7)])
    assert tokens_of(pair, (3, 7)) == (11, 12)
    assert tokens_of(pair, (3, 9)) == (-1, -1)  # its end was cut


def test_every_epoch_reads_every_row_once_on_any_number_of_workers() -> None:
    from train_jobs.data.texts import flat
    from train_jobs.objectives.reading import Pages

    lengths = np.random.default_rng(0).integers(3, 40, 301)
    made = [[n] * int(length) for n, length in enumerate(lengths)]
    pages = Pages({**flat(made), "types": flat(made)["ids"], "answerable": np.ones(301), "spans": np.zeros((301, 2))},
                  8, 5, 0)  # fmt: skip
    for epoch in (0, 1):
        steps = range(epoch * pages.steps_per_epoch, (epoch + 1) * pages.steps_per_epoch)
        assert sorted(int(row) for step in steps for row in pages.chosen(step)) == list(range(301))
    whole, parts = pages.batch(3), [pages.batch(3, rank, 2) for rank in (0, 1)]
    assert sorted(whole.ids[:, 0].tolist()) == sorted(row for part in parts for row in part.ids[:, 0].tolist())
    assert {part.total for part in parts} == {len(whole.ids)}
    padding = [1 - float(pages.batch(step).mask.float().mean()) for step in range(pages.steps_per_epoch)]
    assert np.mean(padding) < 0.1  # rows of a step are about as long


def test_a_folder_that_is_no_reader_is_refused(tmp_path: Path) -> None:
    from data_jobs.retrieval.reader import load_reader

    with pytest.raises(BadInputError, match="holds no reader"):
        load_reader(str(tmp_path))
    (tmp_path / "reader.json").write_text(json.dumps({"format": "other"}))
    with pytest.raises(BadInputError, match="'other'"):
        load_reader(str(tmp_path))
    assert load_reader("") is None
