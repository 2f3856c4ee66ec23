"""A folder with files of every format, good and bad, through the blocks of a whole preparation, without Ray."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pyarrow.parquet as pq

from cluster.core.sections.data import DataSection
from cluster.core.storage import Store
from data_jobs.corpus.blocks import CorpusBlock, clean_block, find_duplicates, finish_block
from data_jobs.corpus.report import check_balance, ledger
from data_jobs.sources.catalogue import governed
from data_jobs.sources.located_files import locate
from tests.data_jobs.corpus_blocks import of_files
from tests.data_jobs.extractors import made


def test_the_books_balance_and_every_record_says_whose_it_is(tmp_path: Path) -> None:
    root = tmp_path / "library"
    root.mkdir()
    for number, (name, make) in enumerate(made.every_format()):
        data = make()
        (root / f"{number:02}-{name}").write_bytes(data)
        (root / f"{number:02}-bad-{name}").write_bytes(data[: len(data) * 2 // 3])
    (root / "pics").mkdir()
    (root / "pics" / "p.png").write_bytes(made.png())
    (root / "pics" / "lonely.png").write_bytes(made.png(3, 3))
    lines = [{"file": "p.png", "caption": "a small square of even grey"}, {"file": "gone.png", "caption": "none"}]
    (root / "pics" / "captions.jsonl").write_text("\n".join(json.dumps(line) for line in lines))
    (root / "odd.xyz").write_bytes(b"?")
    (tmp_path / "sources.yaml").write_text(
        "sources: {shelf: {location: library, owner: Ann, licence: MIT, sensitivity: public, approved_by: Bob,"
        " approved_on: 2025-01-01, uses: [retrieval]}}"
    )
    section, entry = governed(DataSection(source="shelf", sources=str(tmp_path / "sources.yaml"), min_words=1))
    located = locate(section, entry, tmp_path / "landing")
    store = Store(str(tmp_path / "store"))
    block = of_files(0, store, store.staging("run"), section, located.root, located.files, "shelf")
    block = CorpusBlock.from_json(block.to_json())
    clean_block(block)
    cleaned = find_duplicates(store, [block])
    counts = finish_block(block)
    quarantined = [*located.refused, *cleaned.quarantined]
    books = ledger(
        files_seen=len(located.files) + len(located.refused), kept=counts["documents"], dropped=cleaned.left_out(),
        quarantined=quarantined, pii={}, words=0,
    )  # fmt: skip
    check_balance(books)
    assert books["files_seen"] == sum(path.is_file() for path in root.rglob("*"))
    assert books["files_read"] >= 16
    rows = pq.read_table(io.BytesIO(store.read(block.final_path))).to_pylist()
    assert {(r["licence"], r["owner"], r["sensitivity"], r["source_name"]) for r in rows} == {
        ("MIT", "Ann", "public", "shelf")
    }
    assert all(len(r["file_sha256"]) == 64 and r["span"][0] < r["span"][1] for r in rows)
    assert [r["text"] for r in rows if r["id"] == "pics/p.png"] == ["a small square of even grey"]
    reasons = {(q.source, q.record): q.reason for q in quarantined}
    assert reasons["odd.xyz", ""] == "unsupported_kind"
    assert reasons["pics/lonely.png", ""] == "no_caption"
    assert reasons["pics/captions.jsonl", "2"] == "no_image"
    # Each file is accounted for: something kept or left out names it.
    named = {r["source"] for r in rows} | {r["id"] for r in rows} | {q.source for q in quarantined}
    named |= {d.source for d in cleaned.left_out()} | {d.document for d in cleaned.left_out()}
    for path in root.rglob("*"):
        name = path.relative_to(root).as_posix()
        assert path.is_dir() or any(n == name or n.startswith((f"{name}#", f"{name}/", f"{name}:")) for n in named), (
            name
        )
