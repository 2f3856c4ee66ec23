"""What a version was made of, and where a document went."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster.core.errors import BadInputError, IntegrityError
from cluster.core.records import Dropped, Manifest
from cluster.core.storage import Store
from data_jobs.lineage.graph import MAX_DEPTH, Inventory, Node, document_lineage, graph, raw_files
from tests.data_jobs.artefacts import dataset, document, index, made_of, reference


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "store"))


@pytest.fixture
def family(store: Store) -> dict[str, Manifest]:
    """A dataset, its index, a tokenizer, two checkpoints and a model; and a dataset that has nothing to do with it."""
    notes = dataset(store, [document("a.md"), document("b.md", aliases=("bee.md",)), document("r.jsonl#1")],
                    dropped=[Dropped("c.md", "c.md", "duplicate", "near_duplicate", "a.md")])  # fmt: skip
    main = index(store, notes, ["a.md", "a.md", "b.md"])
    words = made_of(store, "tokenizers", "small", dataset=notes)
    base = made_of(store, "checkpoints", "small-base", dataset=notes, tokenizer=words)
    tuned = made_of(store, "checkpoints", "small", base=base, tokenizer=words, dataset=notes)
    model = made_of(store, "models", "small", checkpoint=tuned, dataset=notes, index=main)
    store.move_alias("models", "small", "champion", model.version, why="test")
    other = dataset(store, [document("z.md", source_name="other")], name="other")
    return {"notes": notes, "main": main, "words": words, "base": base, "tuned": tuned, "model": model, "other": other}


def test_a_model_goes_back_to_the_raw_files(store: Store, family: dict[str, Manifest]) -> None:
    catalogue = Inventory.read(store)
    made = graph(store, catalogue, catalogue.resolve("models/small"))
    root = catalogue.ancestry(family["model"])
    assert {node.reference for node in root.nodes()} == {
        reference(family[name]) for name in ("model", "tuned", "base", "words", "main", "notes")
    }
    files = made["files"][reference(family["notes"])]
    assert [(file["path"], file["sha256"]) for file in files] == [
        (d.id, d.file_sha256) for d in (document("a.md"), document("b.md"), document("r.jsonl#1"))
    ]
    assert made["artefact"]["aliases"] == ("champion",)
    checkpoint = root.inputs["checkpoint"]
    assert isinstance(checkpoint, Node)
    assert isinstance(checkpoint.inputs["base"], Node)


@pytest.mark.parametrize(
    ("text", "kind"),
    [("small", "models"), ("small@champion", "models"), ("checkpoints/small", "checkpoints"), ("main@live", "indexes"),
     ("notes", "datasets"), ("tokenizers/small", "tokenizers")],
)  # fmt: skip
def test_references(store: Store, family: dict[str, Manifest], text: str, kind: str) -> None:
    assert Inventory.read(store).resolve(text).kind == kind


def test_a_version_or_its_beginning(store: Store, family: dict[str, Manifest]) -> None:
    catalogue = Inventory.read(store)
    for name, manifest in family.items():
        assert catalogue.resolve(reference(manifest)) == manifest, name
        assert catalogue.resolve(reference(manifest)[:-4]) == manifest, name
    for wrong in ("nothing", "notes@000000000000", "models/notes", ""):
        with pytest.raises(BadInputError):
            catalogue.resolve(wrong)


def test_a_document_is_found_in_all_that_contains_it(store: Store, family: dict[str, Manifest]) -> None:
    found = document_lineage(store, Inventory.read(store), "a.md")
    assert [d["artefact"] for d in found["datasets"]] == [reference(family["notes"])]
    assert [(i["artefact"], i["chunks"], i["aliases"]) for i in found["indexes"]] == [
        (reference(family["main"]), 2, ["live"])
    ]
    assert [m["artefact"] for m in found["models"]] == [reference(family["model"])]
    assert {o["artefact"] for o in found["others"]} == {reference(family[n]) for n in ("words", "base", "tuned")}


def test_other_names_duplicates_and_unknown_ones(store: Store, family: dict[str, Manifest]) -> None:
    catalogue = Inventory.read(store)
    assert document_lineage(store, catalogue, "bee.md")["datasets"][0]["how"] == "alias"
    assert document_lineage(store, catalogue, "r.jsonl#1")["indexes"] == [], "the index has no chunk of it"
    duplicate = document_lineage(store, catalogue, "c.md")
    assert [(d["contains"], d["kept"]) for d in duplicate["datasets"]] == [(False, "a.md")]
    assert duplicate["models"] == []
    assert document_lineage(store, catalogue, "z.md")["models"] == []
    with pytest.raises(BadInputError):
        document_lineage(store, catalogue, "nowhere.md")


def test_an_input_that_is_gone_is_named(store: Store, family: dict[str, Manifest]) -> None:
    store.fs.rm(store.artefact(family["notes"]), recursive=True)
    root = Inventory.read(store).ancestry(family["main"])
    gone = root.inputs["dataset"]
    assert isinstance(gone, Node)
    assert (gone.missing, gone.reference) == (True, reference(family["notes"]))


def test_a_damaged_file_is_named(store: Store, family: dict[str, Manifest]) -> None:
    path = Path(store.artefact(family["notes"])) / "documents-00000.parquet"
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(IntegrityError, match="documents-00000"):
        raw_files(store, family["notes"])


def test_a_chain_of_thousands_ends(store: Store) -> None:
    made = [
        Manifest("indexes", "main", f"{n:012x}", "", (), {"base": f"main@{n - 1:012x}"} if n else {})
        for n in range(3000)
    ]
    root = Inventory(made).ancestry(made[-1])
    assert len(list(root.nodes())) == MAX_DEPTH + 1
