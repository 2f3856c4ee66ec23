"""Forgetting: what is found, what the receipt says, that nobody can change it, that copies are recognised."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from actors.registry.models import Registry
from cluster.core.errors import BadInputError, IntegrityError
from cluster.core.home import Home
from cluster.core.records import Dropped
from cluster.core.storage import Store
from data_jobs.corpus import packs
from data_jobs.corpus.contracts import CLEANED
from data_jobs.corpus.dataset import read_documents
from data_jobs.governance.tombstones import Where, read_tombstones
from data_jobs.lineage import receipts
from data_jobs.lineage.receipts import ForgetRequest
from tests.actors.published import publish
from tests.data_jobs.artefacts import dataset, document, index, made_of, reference
from train_jobs.data.batches import read_documents as read_for_training
from train_jobs.publishing.publish import enrol

TEXT = "Ann Lee lives at the end of the road and has done so for a long time."


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "store"))


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


def test_the_receipt_lists_every_place(store: Store, home: Home) -> None:
    notes = dataset(store, [document("ann.md", TEXT), document("b.md")])
    main = index(store, notes, ["ann.md", "b.md"])
    model = made_of(store, "models", "small", dataset=notes)
    receipt = receipts.forget(store, home, ForgetRequest("ann.md"), by="bob@here", why="asked to")
    assert [(f["dataset"], f["id"]) for f in receipt["found"]] == [(reference(notes), "ann.md")]
    assert [(i["artefact"], i["chunks"]) for i in receipt["indexes"]] == [(reference(main), 1)]
    assert [m["artefact"] for m in receipt["models"]] == [reference(model)]
    assert receipts.tainted(store) == {reference(model): [receipt["receipt"]]}
    assert TEXT not in json.dumps(receipt)
    stones = read_tombstones(store)
    assert stones.covers("ann.md", "notes", "ann.md")
    assert not stones.covers("b.md", "notes", "b.md")


def test_what_is_made_later_of_what_saw_it_is_marked_with_it(store: Store, home: Home) -> None:
    notes = dataset(store, [document("ann.md", TEXT), document("b.md")])
    examples = made_of(store, "examples", "small", dataset=notes)
    assert receipts.inherited(store, examples) == []
    receipt = receipts.forget(store, home, ForgetRequest("ann.md"))
    model = publish(store, "small", "weights", inputs={"examples": reference(examples)})
    taken_in = enrol(store, Registry(store), model)
    assert receipts.inherited(store, taken_in) == [receipt["receipt"]]
    (version,) = Registry(store).versions("small")
    assert [receipt["receipt"] in why for why in version.tainted] == [True]
    fresh = enrol(store, Registry(store), publish(store, "other", "weights"))
    assert receipts.inherited(store, fresh) == []


def test_copies_under_other_names_are_forgotten_too(store: Store, home: Home) -> None:
    dataset(store, [document("ann.md", TEXT), document("b.md")])
    dataset(store, [document("old/ann.txt", "  " + TEXT.upper(), "archive")], name="archive")
    receipt = receipts.forget(store, home, ForgetRequest("ann.md"))
    assert {(f["id"], f["as"]) for f in receipt["found"]} == {("ann.md", "document"), ("old/ann.txt", "copy")}
    assert read_tombstones(store).covers("old/ann.txt", "archive")


def test_one_left_out_as_a_duplicate_takes_the_one_kept_with_it(store: Store, home: Home) -> None:
    dropped = [
        Dropped("ann.md", "ann.md", "duplicate", "exact_duplicate", "copy.md"),
        Dropped("ann2.md", "ann2.md", "duplicate", "near_duplicate", "copy.md"),
    ]
    dataset(store, [document("copy.md", TEXT), document("b.md")], dropped=dropped)
    receipt = receipts.forget(store, home, ForgetRequest("ann.md"))
    assert [f["id"] for f in receipt["found"]] == ["copy.md"]
    assert [n["document"] for n in receipt["near_copies"]] == ["ann2.md"]


def test_a_rule_covers_what_is_there_and_what_will_come(store: Store, home: Home) -> None:
    dataset(store, [document("ann/1.md"), document("ann/2.md"), document("bob/1.md")])
    receipt = receipts.forget(store, home, ForgetRequest(where=Where.parse("source=ann/")))
    assert [f["id"] for f in receipt["found"]] == ["ann/1.md", "ann/2.md"]
    assert read_tombstones(store).covers("ann/3.md", "notes", "ann/3.md")


def test_the_same_id_in_another_source_stays_if_only_one_is_meant(store: Store, home: Home) -> None:
    dataset(store, [document("a.md", "one text of some words", "x")], name="x")
    dataset(store, [document("a.md", "another text of other words", "y")], name="y")
    receipts.forget(store, home, ForgetRequest("a.md", source_name="x"))
    stones = read_tombstones(store)
    assert stones.covers("a.md", "x")
    assert not stones.covers("a.md", "y")


def test_a_document_that_only_an_index_holds_is_forgotten(store: Store, home: Home) -> None:
    notes = dataset(store, [document("b.md")])
    watched = index(store, notes, ["ann.md", "b.md"], name="watched")  # kept fresh from a folder, not from a dataset
    receipt = receipts.forget(store, home, ForgetRequest("ann.md"))
    assert [i["artefact"] for i in receipt["indexes"]] == [reference(watched)]
    assert read_tombstones(store).covers("ann.md")


def test_what_nothing_holds_is_refused_unless_meant(store: Store, home: Home) -> None:
    dataset(store, [document("a.md")])
    with pytest.raises(BadInputError, match=r"nothing holds 'nope\.md'"):
        receipts.forget(store, home, ForgetRequest("nope.md"))
    assert read_tombstones(store).generation == 0
    receipts.forget(store, home, ForgetRequest("nope.md"), unknown=True)
    assert read_tombstones(store).covers("nope.md")


def test_forgetting_twice_puts_up_one_tombstone(store: Store, home: Home) -> None:
    dataset(store, [document("a.md")])
    first, second = (receipts.forget(store, home, ForgetRequest("a.md")) for _ in range(2))
    assert first["tombstone"] == second["tombstone"] == read_tombstones(store).generation == 1
    assert first["receipt"] != second["receipt"]


def test_packs_that_hold_it_are_removed(store: Store, home: Home) -> None:
    dataset(store, [document("ann.md", TEXT), document("b.md")])
    for name, text in (("ann.md", TEXT), ("b.md", "")):
        row = {
            **document(name, text).to_dict(),
            "exact": "0" * 64,
            "group": "",
            "minhash": bytes(512),
            "words": 3,
            "pii": [],
        }
        writer = packs.PackWriter(CLEANED)
        writer.add(name, packs.CleanedItem(rows=[row]))
        store.write(packs.path(store, "notes", "s", [name]), writer.to_bytes())
    receipt = receipts.forget(store, home, ForgetRequest("ann.md"))
    assert [c["file"] for c in receipt["cache"]] == [packs.path(store, "notes", "s", ["ann.md"])[len(store.root) + 1 :]]
    assert list(packs.locations(store, "notes", "s")) == ["b.md"]


def test_a_receipt_verifies_and_a_changed_one_does_not(store: Store, home: Home, tmp_path: Path) -> None:
    dataset(store, [document("ann.md", TEXT), document("b.md")])
    receipt = receipts.forget(store, home, ForgetRequest("ann.md"))
    path = tmp_path / "receipt.json"
    path.write_text(json.dumps(receipt, indent=4))
    found = receipts.verify(store, home, receipts.load(store, str(path)))
    assert found["valid"]
    assert found["signed_by"]["own"]
    assert found["tombstone"]["stands"]
    assert found["came_back"] == []
    assert receipts.load(store, receipt["receipt"]) == json.loads(path.read_text())
    changes: list[dict[str, object]] = [{"why": "another"}, {"found": []}, {"signature": {}}, {"at": "2020-01-01"}]
    for change in changes:
        with pytest.raises(IntegrityError):
            receipts.verify(store, home, {**receipt, **change})
    stranger = receipts.sign(
        {k: v for k, v in receipt.items() if k != "signature"}, Home(tmp_path / "x"), Store("memory://")
    )
    with pytest.raises(IntegrityError, match="not signed with a key"):
        receipts.verify(store, home, stranger)


def test_a_document_that_came_back_is_noticed(store: Store, home: Home) -> None:
    dataset(store, [document("ann.md", TEXT), document("b.md")])
    receipt = receipts.forget(store, home, ForgetRequest("ann.md"))
    later = dataset(store, [document("renamed.md", TEXT), document("b.md"), document("c.md")])
    assert receipts.verify(store, home, receipt)["came_back"] == [reference(later)]


def test_what_is_made_of_an_older_version_no_longer_sees_it(
    store: Store, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLINTH_HOME", str(home.root))
    made = dataset(store, [document("ann.md", TEXT), document("b.md")])
    receipts.forget(store, home, ForgetRequest("ann.md"))
    assert [d.id for d in read_documents(store, made)] == ["b.md"]
    assert [read.document.id for read in read_for_training(store, made, 0.1)] == ["b.md"]


def test_the_key_is_for_its_owner_only(store: Store, home: Home) -> None:
    dataset(store, [document("a.md")])
    receipts.forget(store, home, ForgetRequest("a.md"))
    key = home.root / "keys" / "receipts.ed25519"
    assert key.stat().st_mode & 0o777 == 0o600
    assert key.read_text() not in "".join(
        p.read_text() for p in Path(store.path("forgotten")).rglob("*") if p.is_file()
    )


@pytest.mark.parametrize("text", ["", "{", "[]", '{"receipt": "x"}'])
def test_what_is_no_receipt_is_refused(store: Store, tmp_path: Path, text: str) -> None:
    path = tmp_path / "receipt.json"
    path.write_text(text)
    with pytest.raises(BadInputError):
        receipts.load(store, str(path))
    with pytest.raises(BadInputError):
        receipts.load(store, "../nothing")
