"""A folder of mixed files as people have them, every format that is read, with planted words; and what is lost of it.

    python -m tests.data_jobs.mixed_folder FOLDER --files 3000

writes the files below FOLDER/files, prepares them without a cluster, and says which planted words are in the dataset,
which are missing though something names their record or file in the books, and which went silently (exit code 1).
"""

from __future__ import annotations

import argparse
import io
import json
import random
import re
import struct
import sys
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow.parquet as pq

from cluster.core.sections.data import DataSection
from cluster.core.storage import Store
from data_jobs.corpus.blocks import clean_block, find_duplicates, finish_block, split
from data_jobs.sources.files import list_files
from tests.data_jobs.corpus_blocks import of_files
from tests.data_jobs.extractors import made
from tests.data_jobs.extractors.constructs import Construct, every_format, html, word

_NOUNS = "pump valve tank hall boiler meter gate crane belt shaft rotor panel switch sensor filter hose"
_VERBS = "opens closes heats cools moves lifts turns stops feeds cleans"
_ADJECTIVES = "old new red green small large northern quiet heavy spare second third"
BLOCK_FILES = 250
MAX_FILE_BYTES = 32 << 20


@dataclass
class Planted:
    """Words by the file they stand in: those that must come out and those that must not."""

    kept: dict[str, str] = field(default_factory=dict)
    hidden: dict[str, str] = field(default_factory=dict)


def prose(dice: random.Random, sentences: int) -> str:
    nouns, verbs, adjectives = _NOUNS.split(), _VERBS.split(), _ADJECTIVES.split()

    def noun() -> str:
        return f"the {dice.choice(adjectives)} {dice.choice(nouns)} {dice.randrange(10, 999)}"

    return " ".join(f"In {noun()} {noun()} {dice.choice(verbs)} {noun()}." for _ in range(sentences))


def write_folder(folder: Path, files: int, seed: int = 7) -> Planted:
    """Write ``files`` files of all formats in turn; each has a random half of its format's constructs."""
    dice, planted = random.Random(seed), Planted()
    number = 0
    formats = list(every_format())
    for index in range(files):
        kind = index % (len(formats) + 4)
        words: list[tuple[Construct, str]] = []

        def plant(listed: Sequence[Construct], words: list[tuple[Construct, str]] = words) -> dict[str, str]:
            nonlocal number
            names = {}
            for one in listed:
                number += 1
                names[one.name] = word(number)
                words.append((one, names[one.name]))
            return names

        place = f"{dice.choice(('reports', 'notes', 'export/2024', 'mail'))}/{index:05}"
        path, data = (
            _of_format(formats[kind], plant, dice, place) if kind < len(formats)
            else _holder(kind - len(formats), plant, dice, folder, place)
        )  # fmt: skip
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
        for one, planted_word in words:
            (planted.hidden if one.lost else planted.kept)[planted_word] = path
    return planted


def _chosen(listed: Sequence[Construct], dice: random.Random) -> list[Construct]:
    return [one for one in listed if dice.random() < 0.5] or list(listed)


def _of_format(found, plant, dice: random.Random, place: str) -> tuple[str, bytes]:
    name, listed, build = found
    chosen = _chosen(listed, dice)
    if name == "a.html":
        chosen = [Construct("prose", f"<p>{prose(dice, 6)}</p>", lost=True), *chosen]
    elif name in ("a.md", "a.txt", "a.rst"):
        chosen = [*chosen[:1], Construct("prose", prose(dice, 6), lost=True), *chosen[1:]]
    names = plant([one for one in chosen if one.name != "prose"]) | {"prose": ""}
    return f"{place}-{name}", build(chosen, names.__getitem__)


def _holder(kind: int, plant, dice: random.Random, folder: Path, place: str) -> tuple[str, bytes]:
    """What holds others: a zip, a tar.gz, a web archive, a picture with its caption."""
    names = plant([Construct(f"entry {n}", "{}") for n in range(3)])
    texts = [f"The {said} stands here. {prose(dice, 5)}" for said in names.values()]
    if kind == 0:
        return f"{place}.zip", made.zipped([(f"docs/{n}.md", text.encode()) for n, text in enumerate(texts)])
    if kind == 1:
        return f"{place}.tar.gz", made.tarred([(f"docs/{n}.txt", text.encode()) for n, text in enumerate(texts)])
    if kind == 2:
        pages = [Construct("text", f"<article><p>{text}</p></article>") for text in texts]
        bodies = [html([page], lambda _: "", title=f"Page {n}") for n, page in enumerate(pages)]
        responses = [
            (f"https://a.example/{place}/{n}", "200 OK", "text/html; charset=utf-8", b) for n, b in enumerate(bodies)
        ]
        return f"{place}.warc.gz", made.warc(responses)
    (folder / place).mkdir(parents=True, exist_ok=True)
    lines = [json.dumps({"file": f"{n}.{s}", "caption": text}) for (n, s), text in zip(_PICTURES, texts, strict=True)]
    (folder / place / "captions.jsonl").write_text("\n".join(lines))
    for n, suffix in _PICTURES[1:]:
        (folder / place / f"{n}.{suffix}").write_bytes(jpeg() if suffix == "jpg" else made.png())
    return f"{place}/0.png", made.png()


_PICTURES = ((0, "png"), (1, "jpg"), (2, "png"))


def jpeg() -> bytes:
    """The smallest JPEG that is whole, with what a phone writes behind its end."""
    frame = b"\xff\xc0" + struct.pack(">HBHHB", 11, 8, 16, 16, 1) + b"\x01\x11\x00"
    scan = b"\xff\xda" + struct.pack(">HBBBBBB", 8, 1, 1, 0, 0, 63, 0) + b"\x12\x34\x56"
    return b"\xff\xd8" + frame + scan + b"\xff\xd9" + b"MotionPhoto" + zlib.compress(b"trailer")


@dataclass(frozen=True)
class Losses:
    """What became of the planted words: ``named`` losses stand in the books, ``shown`` words were to be hidden."""

    files: int
    words: int
    documents: int
    silent: tuple[str, ...]
    named: tuple[str, ...]
    shown: tuple[str, ...]
    skipped: dict[str, int]


def losses(folder: Path, planted: Planted, store: Store) -> Losses:
    """Prepare the folder as the job does, without a cluster, and look for every planted word."""
    section = DataSection(source=str(folder), min_words=1, near_duplicate_jaccard=1.0)
    items, refused = list_files(folder, MAX_FILE_BYTES)
    parts = split(items, [item.bytes for item in items], max(1, len(items) // BLOCK_FILES))
    blocks = [
        of_files(n, store, store.staging("mixed"), section, folder, part, "mixed") for n, part in enumerate(parts)
    ]
    for block in blocks:
        clean_block(block)
    cleaned = find_duplicates(store, blocks)
    counts = [finish_block(block) for block in blocks]
    seen: set[str] = set()
    for block in blocks:
        for row in _rows(store, block.final_path):
            seen |= set(re.findall(r"marka[a-z]+o", f"{row['title']} {row['text']}"))
    named = {q.source for q in [*refused, *cleaned.quarantined]} | {d.document for d in cleaned.left_out()}
    missing = [(said, path) for said, path in planted.kept.items() if said not in seen]
    silent = [f"{path}: {said}" for said, path in missing if not any(n.startswith(path) for n in named)]
    told = [f"{path}: {said}" for said, path in missing if f"{path}: {said}" not in silent]
    skipped: dict[str, int] = {}
    for count in counts:
        for kind, number in count["skipped"].items():
            skipped[kind] = skipped.get(kind, 0) + number
    return Losses(
        files=len(items), words=len(planted.kept), documents=sum(count["documents"] for count in counts),
        silent=tuple(silent), named=tuple(told),
        shown=tuple(f"{path}: {said}" for said, path in planted.hidden.items() if said in seen), skipped=skipped,
    )  # fmt: skip


def _rows(store: Store, path: str) -> Iterator[dict[str, str]]:
    if store.exists(path):
        yield from pq.read_table(io.BytesIO(store.read(path)), columns=["title", "text"]).to_pylist()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--files", type=int, default=3_000)
    arguments = parser.parse_args()
    files = arguments.folder / "files"
    planted = write_folder(files, arguments.files)
    found = losses(files, planted, Store(str(arguments.folder / "store")))
    print(f"{found.files} files, {found.documents} documents, {found.words} planted words:")
    print(f"{len(found.silent)} lost silently, {len(found.named)} lost and named in the books;")
    print(f"{len(planted.hidden)} hidden ones, {len(found.shown)} of them shown")
    print("left out:", json.dumps(found.skipped, sort_keys=True))
    for line in [*found.silent[:20], *found.named[:20], *found.shown[:20]]:
        print("  ", line)
    return 1 if found.silent or found.shown else 0


if __name__ == "__main__":
    sys.exit(main())
