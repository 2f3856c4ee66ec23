"""What safety heads learn from: rows that are handed in, and rows written for it.

Patterns are in ``safety_rows.yaml``; texts as people write them in ``safety_written/*.txt``, one a line: a letter of
``LETTERS``, a blank, the text, whose own line ends are written ``\\n``.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from cluster.core.errors import BadInputError
from data_jobs.safety.head import BUSINESS, LOOK_ALIKE
from data_jobs.safety.rules import HARMFUL, INJECTION
from train_jobs.recipes.rows import BadRowError, Row, Rows, read_rows, text_of

BENIGN = "benign"
LABELS = (BENIGN, INJECTION, HARMFUL)
SLICES = ("", BUSINESS, LOOK_ALIKE)
WRITTEN = "written"  # how the names of the written sets begin
EACH, SEED, DRAWS = 600, 20, 60  # rows of a written kind, and how often a pattern is filled
GROUPS = 4  # sets that a kind's patterns are dealt to
FOLDER = Path(__file__).with_name("safety_written")
# Label and slice of a text: an injection, a harmful request, what only looks like one of them, anything else.
LETTERS = {"I": (INJECTION, ""), "H": (HARMFUL, ""), "L": (BENIGN, LOOK_ALIKE), "B": (BENIGN, "")}

_SLOT = re.compile(r"\{(\w+)\}")


def read_texts(path: str) -> Rows:
    """The rows of a file, all of them in ``train``: whole sets are left out, whatever ``split`` says.

    Raises:
        BadInputError: the file cannot be read.
    """
    found = read_rows(path, parse, held_out=0.0, least=0)
    return Rows([*found.train, *found.held_out], [], found.sha256, found.refused)


def parse(row: Mapping[str, Any]) -> Row:
    """A row of {text, label, set, slice?}.

    Raises:
        BadRowError: something is missing or of another kind.
    """
    label, part = row.get("label"), row.get("slice", "")
    if label not in LABELS:
        raise BadRowError(f"label is {label!r:.40}, and must be one of {', '.join(LABELS)}")
    if part not in SLICES or (part and label != BENIGN):
        raise BadRowError(f"slice is {part!r:.40}, and must be {BUSINESS} or {LOOK_ALIKE}, of a benign row")
    name = text_of(row, "set")
    if name.startswith(WRITTEN):
        raise BadRowError(f"a set may not be called {name!r:.40}: so are those that belong to the recipe")
    return {"key": name, "text": text_of(row, "text"), "label": label, "set": name, "slice": part}


def written_rows(seed: int = SEED, each: int = EACH) -> list[Row]:
    """The written rows: at most ``each`` of a kind, the same for the same seed."""
    data = yaml.safe_load((Path(__file__).parent / "safety_rows.yaml").read_text(encoding="utf-8"))
    rows = []
    for kind in (INJECTION, LOOK_ALIKE, HARMFUL):
        label, part = (BENIGN, LOOK_ALIKE) if kind == LOOK_ALIKE else (kind, "")
        for group in range(GROUPS):  # patterns of one group are left out together
            draw = random.Random(f"{seed} {kind} {group}")  # noqa: S311
            name = f"{WRITTEN}_{kind}_{group + 1}"
            texts = _filled(data[kind][group::GROUPS], data["slots"], draw, each // GROUPS)
            rows += [{"key": name, "text": text, "label": label, "set": name, "slice": part} for text in texts]
    return [*rows, *written_texts()]


def unseen(name: str) -> bool:
    """Whether the encoder under the heads has learnt nothing of a set: its last blocks are kept from it."""
    return not name.startswith(WRITTEN) or name.endswith(f"_{GROUPS}")


def written_texts(folder: Path = FOLDER) -> list[Row]:
    """The texts of a folder, each once; a file is dealt to ``GROUPS`` sets in blocks, as neighbours are alike.

    Raises:
        BadInputError: a line without a letter or a text; it is named.
    """
    rows: dict[str, Row] = {}
    for path in sorted(folder.glob("*.txt")):
        lines = path.read_text(encoding="utf-8").splitlines()
        for number, line in enumerate(lines, 1):
            letter, _, text = line.strip().partition(" ")
            if letter not in LETTERS or not text.strip():
                raise BadInputError(f"{path.name}, line {number}: wanted one of {', '.join(LETTERS)}, and a text")
            label, part = LETTERS[letter]
            text = text.strip().replace("\\n", "\n")
            name = f"{WRITTEN}_{path.stem}_{(number - 1) * GROUPS // len(lines) + 1}"
            rows.setdefault(text, {"key": name, "text": text, "label": label, "set": name, "slice": part})
    return list(rows.values())


def _filled(patterns: Sequence[str], slots: Mapping[str, Sequence[str]], draw: random.Random, each: int) -> list[str]:
    texts = {
        _SLOT.sub(lambda match: str(draw.choice(slots[match[1]])), pattern)
        for pattern in patterns
        for _ in range(DRAWS)
    }
    found = sorted(text[0].upper() + text[1:] for text in texts)
    draw.shuffle(found)
    return found[:each]
