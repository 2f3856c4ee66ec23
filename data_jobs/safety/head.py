"""How much a text looks like an injection or a harmful request: linear heads over its vector (``safety.encoder``).

They come out of a JSON file of a few kilobytes that ``plinth train safety`` writes, with what was measured of each on
sets it had not seen. Those numbers decide what a head may do: one that misses its bar flags, and never blocks.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt

from cluster.core.errors import IncompatibleError, IntegrityError
from data_jobs.safety.rules import HARMFUL, INJECTION

FORMAT, FILE = 1, "safety_head.json"
SHIPPED = Path(__file__).parent / FILE
PIECE = 700  # characters that are scored as one: well within the tokens that an encoder reads
BUSINESS, LOOK_ALIKE = "business", "look_alike"
Action = Literal["block", "flag"]


@dataclass(frozen=True)
class Measured:
    """Of one head on sets that it had not seen, at its threshold: area under the ROC curve, recall, and the share it
    flags of ordinary business text, of benign look-alikes, and of the benign rows of the set that it flags most of."""

    auroc: float
    recall: float
    business: float
    look_alike: float
    worst_set: float = 1.0  # of a file that does not say


@dataclass(frozen=True)
class Bar:
    """What a head must reach in order to block."""

    auroc: float = 0.0
    recall: float = 0.0
    business: float = 0.03
    look_alike: float = 1.0
    worst_set: float = 0.05

    def reached(self, measured: Measured) -> bool:
        """Whether every number is as good."""
        return (
            measured.auroc >= self.auroc
            and measured.recall >= self.recall
            and measured.business <= self.business
            and measured.look_alike <= self.look_alike
            and measured.worst_set <= self.worst_set
        )


BARS = {INJECTION: Bar(auroc=0.85), HARMFUL: Bar(recall=0.80, look_alike=0.05)}


@dataclass(frozen=True)
class Head:
    """One head: log-odds are ``vector @ weights + bias``; from ``threshold`` on a text is flagged."""

    weights: tuple[float, ...]
    bias: float
    threshold: float
    measured: Measured


@dataclass(frozen=True)
class SafetyHead:
    """The heads by category, whose vectors they read (``Embedder.asks``), and what they are called in verdicts."""

    embedder: str
    version: str
    heads: Mapping[str, Head]

    def scores(self, vectors: npt.ArrayLike) -> dict[str, npt.NDArray[np.float64]]:
        """Log-odds [n] of vectors [n, d], by category."""
        found = np.asarray(vectors, dtype=np.float64)
        return {name: found @ np.array(head.weights) + head.bias for name, head in self.heads.items()}

    def action(self, category: str) -> Action:
        """What this head may do with a text that reaches its threshold: what was measured decides."""
        return "block" if BARS[category].reached(self.heads[category].measured) else "flag"

    def to_json(self) -> str:
        """The file's text."""
        return json.dumps({"format": FORMAT, **asdict(self)}, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str, where: str = FILE) -> Self:
        """A head out of its file.

        Raises:
            IncompatibleError: another format.
            IntegrityError: the file is damaged.
        """
        try:
            data = json.loads(text)
            if data["format"] != FORMAT:
                raise IncompatibleError(f"{where} has format {data['format']!r}, and this version reads {FORMAT}")
            heads = {name: _head(one) for name, one in data["heads"].items()}
            if not heads or not heads.keys() <= BARS.keys():
                raise ValueError(f"heads of {', '.join(heads) or 'nothing'}")
            return cls(str(data["embedder"]), str(data["version"]), heads)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise IntegrityError(f"{where} is damaged: {type(error).__name__} {error}") from error


def _head(data: Any) -> Head:
    weights, measured = tuple(map(float, data["weights"])), Measured(**data["measured"])
    head = Head(weights, float(data["bias"]), float(data["threshold"]), measured)
    if not weights or not all(map(math.isfinite, (*weights, head.bias, head.threshold, *asdict(measured).values()))):
        raise ValueError("numbers that are none")
    return head


def pieces(text: str) -> list[str]:
    """A text cut where it may be, each piece short enough to be read whole; at least one."""
    found = []
    while len(text) > PIECE:
        at = text.rfind(" ", PIECE // 2, PIECE)
        at = at if at > 0 else PIECE
        found.append(text[:at])
        text = text[at:]
    return [*found, text]
