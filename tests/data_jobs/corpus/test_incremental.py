"""Preparing a folder again after it changed: the same bytes as from scratch, and only what changed is cleaned."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cluster.core.records import Quarantined
from cluster.core.sections.data import DataSection
from cluster.core.storage import Store
from data_jobs.corpus import blocks as blocks_module
from data_jobs.corpus import packs
from data_jobs.corpus.blocks import (
    CleanedCorpus,
    CorpusBlock,
    clean_block,
    find_duplicates,
    finish_block,
    number_of_blocks,
    split,
    with_packs,
)
from data_jobs.governance.tombstones import add_tombstone, text_sha256
from data_jobs.sources import files_source
from data_jobs.sources.files import FileItem, list_files
from tests.data_jobs.corpus_blocks import of_files

KEY = "settings"


def prepared(
    root: Path, store: Store, blocks: int = 3, run: str = "run"
) -> tuple[dict[str, bytes], int, list[CorpusBlock]]:
    """What prepare_corpus arranges, without Ray: the dataset's parts, the number of items cleaned, the blocks."""
    section = DataSection(source=str(root), blocks=blocks, names="off")
    items, _ = list_files(root, 1 << 20)
    staging = store.staging(run)
    sizes = [item.bytes for item in items]
    parts = split(items, sizes, number_of_blocks(section, sizes))
    made = [of_files(i, store, staging, section, root, part, "test") for i, part in enumerate(parts)]
    made, reused = with_packs(made, "test", KEY, store)
    for block in made:
        if not store.exists(block.clean_path):
            clean_block(CorpusBlock.from_json(block.to_json()))
    cleaned = find_duplicates(store, made)
    files = {}
    for block in made:
        if finish_block(block)["documents"]:
            files[block.final_path.rpartition("/")[2]] = store.read(block.final_path)
    files["books"] = books(cleaned).encode()
    store.fs.rm(staging, recursive=True)
    packs.keep_only(store, "test", KEY, [block.clean_path for block in made])
    return files, len(items) - reused, made


def books(cleaned: CleanedCorpus) -> str:
    lines: list[object] = [*cleaned.left_out(), *cleaned.quarantined]
    assert all(isinstance(line, Quarantined) or line for line in lines)
    return "\n".join(map(repr, lines))


def write(root: Path, files: dict[str, str]) -> None:
    root.mkdir(parents=True, exist_ok=True)
    for path in root.iterdir():
        path.unlink()
    for name, text in files.items():
        (root / name).write_text(text)


def sentence(seed: int) -> str:
    dice = random.Random(seed)
    return " ".join(f"{dice.choice('bdfglmn')}{dice.choice('aeiou')}{dice.randrange(40)}" for _ in range(12))


NAMES = st.sampled_from([f"f{n}.txt" for n in range(7)] + ["r.jsonl", "s.jsonl"])
BODIES = st.one_of(
    st.integers(0, 5).map(sentence),
    st.integers(0, 5).map(lambda n: f"{sentence(n)} Write to ann{n}@corp.io now. {sentence(n + 9)}"),
    st.lists(st.integers(0, 4), max_size=4).map(
        lambda ns: "\n".join(f'{{"id": "r{n}", "text": "{sentence(n)}"}}' for n in ns) + "\n{bad"
    ),
    st.just(""),
    st.just("short"),
)
FOLDERS = st.dictionaries(NAMES, BODIES, min_size=1, max_size=8)


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(folders=st.lists(FOLDERS, min_size=2, max_size=3), forget=st.sampled_from(["", "f1.txt", "r.jsonl#r1"]))
def test_any_edits_give_the_bytes_of_a_run_from_scratch(
    tmp_path_factory: pytest.TempPathFactory, folders: list[dict[str, str]], forget: str
) -> None:
    base = tmp_path_factory.mktemp("edits")
    kept = Store(str(base / "kept"))
    for number, files in enumerate(folders):
        write(base / "here", files)
        write(base / "there", files)  # another absolute path
        fresh = Store(str(base / f"fresh{number}"))
        if forget and number == len(folders) - 1:
            add_tombstone(kept, document=forget)
            add_tombstone(fresh, document=forget)
        assert prepared(base / "here", kept)[0] == prepared(base / "there", fresh)[0]


def test_one_changed_file_of_many_is_cleaned_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, store = tmp_path / "root", Store(str(tmp_path / "store"))
    files = {f"f{n:03}.txt": f"{sentence(n)} {sentence(n + 500)}" for n in range(80)}
    write(root, files)
    first, cleaned, _ = prepared(root, store, blocks=8)
    assert cleaned == 80
    write(root, files | {"f077.txt": sentence(9999) + " and quite some more words than were there before."})
    read: list[str] = []
    reader = files_source.read_records

    def watched(base: Path, item: FileItem, *rest: Any) -> Iterator[Any]:
        read.append(item.path)
        return reader(base, item, *rest)

    monkeypatch.setattr(files_source, "read_records", lambda *given: _lazily(watched, *given))
    second, cleaned, _ = prepared(root, store, blocks=8)
    assert cleaned == 1
    assert read == ["f077.txt"]
    assert first != second


def _lazily(reader: Callable[..., Iterator[Any]], *given: Any) -> Iterator[Any]:
    yield from reader(*given)


def test_a_damaged_pack_is_made_again(tmp_path: Path) -> None:
    root, store = tmp_path / "root", Store(str(tmp_path / "store"))
    write(root, {f"f{n}.txt": sentence(n) for n in range(9)})
    whole, _, blocks = prepared(root, store)
    for change in (lambda data: data[: len(data) // 2], lambda data: flip(data, len(data) // 3)):
        path = Path(blocks[1].clean_path)
        path.write_bytes(change(path.read_bytes()))
        assert prepared(root, store)[0] == whole


def flip(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1 :]


def test_what_no_longer_is_in_the_folder_leaves_the_cache(tmp_path: Path) -> None:
    root, store = tmp_path / "root", Store(str(tmp_path / "store"))
    write(root, {"a.txt": sentence(1), "b.txt": sentence(2)})
    prepared(root, store)
    write(root, {"a.txt": sentence(1)})
    prepared(root, store)
    assert len(packs.locations(store, "test", KEY)) == 1


def test_the_cache_holds_no_personal_data(tmp_path: Path) -> None:
    root, store = tmp_path / "root", Store(str(tmp_path / "store"))
    write(root, {"a.txt": f"{sentence(1)} Write to ann.lee@corp.io for more."})
    prepared(root, store)
    for where in packs.everything(store):
        found = packs.read(store, where)
        assert found is not None
        assert "ann.lee" not in str(found[0].to_pylist())
        assert "<EMAIL_1>" in str(found[0].to_pylist())


def test_a_forgotten_document_stays_out_also_under_another_name(tmp_path: Path) -> None:
    root, store = tmp_path / "root", Store(str(tmp_path / "store"))
    write(root, {"a.txt": sentence(1), "b.txt": sentence(2), "copy.txt": sentence(1)})
    add_tombstone(store, document="a.txt", texts=[text_sha256(sentence(1))])
    files, _, blocks = prepared(root, store)
    cleaned = find_duplicates(store, blocks)
    assert sorted((d.document, d.reason) for d in cleaned.left_out()) == [
        ("a.txt", "forgotten"),
        ("copy.txt", "forgotten"),
    ]
    assert cleaned.kept == 1
    assert sentence(1).encode() not in b"".join(files.values())


def test_blocks_do_not_grow_with_the_corpus() -> None:
    section = DataSection(blocks=4, names="off")
    for files in (10, 100, 10_000):
        sizes = [100_000] * files
        parts = split(sizes, sizes, number_of_blocks(section, sizes))
        assert sum(map(len, parts)) == files
        assert max(sum(part) for part in parts) <= blocks_module.BLOCK_BYTES + max(sizes)
