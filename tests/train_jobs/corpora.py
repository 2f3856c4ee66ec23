"""A small corpus with a pattern to learn, and examples of pointing at one of three sentences."""

from __future__ import annotations

import io
import json
import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from cluster.core.records import Document, Manifest
from cluster.core.sections.train import TrainSection
from cluster.core.storage import Store

PARTS = ("pump", "valve", "filter", "hose", "gauge", "relay", "sensor", "bearing")
VERBS = ("replace", "inspect", "clean", "tighten", "grease", "measure")
SECTION = TrainSection(
    name="tiny", min_documents=10, vocab_size=512, hidden=32, layers=2, heads=2, kv_heads=1, mlp=64, context_tokens=64,
    batch_tokens=1024, learning_rate=1e-2, held_out=0.2, steps=20, checkpoint_s=0.2,
)  # fmt: skip


def documents(count: int = 120, seed: int = 0) -> list[Document]:
    rng = random.Random(seed)
    made = []
    for number in range(count):
        part, verb = rng.choice(PARTS), rng.choice(VERBS)
        hours = rng.randrange(100, 900, 100)
        text = f"To {verb} the {part}, stop the engine. Then {verb} the {part} every {hours} hours of running."
        made.append(Document(id=f"manual.{part}_{number}", title=f"{part} {number}", text=text, source="manual"))
    return made


def make_dataset(store: Store, made: list[Document] | None = None, name: str = "manual") -> Manifest:
    made = documents() if made is None else made
    folder = store.staging(f"dataset-{name}-{len(made)}")
    buffer = io.BytesIO()
    rows = [{**d.to_dict(), "aliases": list(d.aliases), "questions": list(d.questions)} for d in made]
    texts = pa.list_(pa.string())
    table = pa.Table.from_pylist(rows)
    for column in ("aliases", "questions"):
        table = table.set_column(table.column_names.index(column), column, pa.array([[]] * len(made), type=texts))
    pq.write_table(table, buffer)
    store.write(f"{folder}/documents-00000.parquet", buffer.getvalue())
    return store.publish("datasets", name, folder, run_key=f"dataset-{name}", counts={"kept": len(made)})


def example_rows(count: int, seed: int = 0) -> list[dict[str, str]]:
    """Which of three parts is asked for: the completion is the special token of its sentence."""
    rng, rows = random.Random(seed), []
    for _ in range(count):
        parts = rng.sample(PARTS, 3)
        asked = rng.randrange(3)
        lines = "".join(f"<|s{n}|> {part}" for n, part in enumerate(parts))
        prompt = f"<|bos|><|question|> {parts[asked]}<|passage|>{lines}<|answer|>"
        rows.append({"prompt": prompt, "completion": f"<|s{asked}|><|eos|>"})
    return rows


def make_examples(store: Store, tokenizer: Manifest, train: int = 200, held_out: int = 40) -> Manifest:
    folder = store.staging(f"examples-{train}")
    for seed, (side, count) in enumerate((("train", train), ("held_out", held_out))):
        lines = "".join(json.dumps(row) + "\n" for row in example_rows(count, seed))
        store.write(f"{folder}/{side}.jsonl", lines.encode())
    inputs = {"tokenizer": f"{tokenizer.name}@{tokenizer.version}"}
    return store.publish("examples", "tiny", folder, run_key=f"examples-{train}", inputs=inputs)


def flip_a_bit(path: str | Path, where: float = 0.5) -> None:
    data = bytearray(Path(path).read_bytes())
    data[int(len(data) * where)] ^= 1
    Path(path).write_bytes(bytes(data))
