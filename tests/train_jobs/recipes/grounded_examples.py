"""Examples with evidence, as ``plinth train examples`` makes them: which part is cleaned how often, or not told."""

from __future__ import annotations

import json
import random
from typing import Any

from cluster.core.records import Manifest
from cluster.core.storage import Store

PARTS = ("pump", "valve", "filter", "hose", "gauge", "relay")


def example(number: int, side: str) -> dict[str, Any]:
    picker = random.Random(number)
    parts = picker.sample(PARTS, 2)
    texts = [f"The {part} is cleaned every {picker.randrange(2, 9)} days." for part in parts]
    known = number % 3 != 0
    asked = parts[0] if known else next(p for p in PARTS if p not in parts)
    return {
        "split": side, "kind": "own" if known else "left_out",
        "question": f"How often is the {asked} cleaned {number}?",
        "prompt": "", "gold_sentence": texts[0] if known else "", "document": parts[0] if known else "",
        "answerable": known, "baseline": texts[1], "support": 0.8, "supported": True, "sentences": texts,
        "documents": parts, "evidence": [{"heading": p, "text": t} for p, t in zip(parts, texts, strict=True)],
        "quote": {"text": "", "sentence": texts[1], "grounded": True, "document": parts[1]},
    }  # fmt: skip


def make_examples(store: Store, rows: int = 60) -> Manifest:
    folder = store.staging("grounded-examples")
    for side, count in (("train", rows), ("held_out", 24)):
        lines = "".join(json.dumps(example(n + 1000 * (side == "train"), side)) + "\n" for n in range(count))
        store.write(f"{folder}/{side}.jsonl", lines.encode())
    return store.publish("examples", "tiny", folder, run_key=f"grounded-{rows}", inputs={"index": "i@1"})
