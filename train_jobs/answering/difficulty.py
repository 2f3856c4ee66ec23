"""How likely the small tier's answer to a question is as good as the large one's: a linear model that training fits.

It reads the question alone: its vector, as the index's embedder makes it, and a few cheap features of its wording. The
same code runs in training (``recipes.router``) and in the gateway (``serve_apps.routing.learned``): without torch, in
microseconds, out of a JSON file of a few kilobytes.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from cluster.core.errors import IncompatibleError, IntegrityError

FORMAT = 1
FILE = "router.json"
# Where `plinth router tune` writes what serve reads: the artefact, its alias and its file.
POLICIES, AUTO_POLICY, LIVE, POLICY = "routing", "auto", "live", "policy.json"
TUNE = "write it again with `plinth router tune --target-cost X`"
Floats = npt.NDArray[np.float64]

_WORD = re.compile(r"\w+")
_ENDS = re.compile(r"[.!?](?:\s|$)")
_NEGATION = re.compile(r"\b(?:not|no|except|never|least|none|cannot|neither|nor|without|incorrect|false)\b", re.I)
LONG_WORD = 10  # characters
# By name, in the order of `cheap_features`; a model keeps the names it was fitted with.
CHEAP = (
    "characters", "words", "word_length", "digits", "symbols", "capitals", "long_words", "different_words",
    "sentences", "question_marks", "negations", "lines", "numbers", "commas",
)  # fmt: skip
_SYMBOLS = frozenset("+-*/=^<>()[]{}|\\%$_~&")


def cheap_features(question: str) -> Floats:
    """What is counted of a question's wording, float64 [len(CHEAP)]: shares, and logarithms of counts."""
    words = _WORD.findall(question)
    characters, count = max(1, len(question)), max(1, len(words))
    counts = (
        len(_ENDS.findall(question)), question.count("?"), len(_NEGATION.findall(question)), question.count("\n"),
        sum(word.isdigit() for word in words), question.count(","),
    )  # fmt: skip
    shares = (
        sum(map(len, words)) / count,
        sum(map(str.isdigit, question)) / characters,
        sum(character in _SYMBOLS for character in question) / characters,
        sum(map(str.isupper, question)) / characters,
        sum(len(word) >= LONG_WORD for word in words) / count,
        len({word.lower() for word in words}) / count,
    )
    return np.array([math.log(characters), math.log(count), *shares, *(math.log1p(each) for each in counts)])


def inputs_of(questions: Sequence[str], vectors: npt.ArrayLike) -> Floats:
    """What the model reads of questions: their vectors [n, d] and cheap features, float64 [n, d + len(CHEAP)]."""
    cheap = np.array([cheap_features(question) for question in questions]).reshape(len(questions), len(CHEAP))
    return np.hstack([np.asarray(vectors, dtype=np.float64).reshape(len(questions), -1), cheap])


@dataclass(frozen=True)
class Difficulty:
    """A fitted model.

    Attributes:
        embedder: which questions' vectors it reads (``ModelFiles.asks``).
        mean, scale: of its inputs, in training; weights: of what is left after both; bias.
        cheap: names of the cheap features it was fitted with.
    """

    embedder: str
    mean: tuple[float, ...]
    scale: tuple[float, ...]
    weights: tuple[float, ...]
    bias: float
    cheap: tuple[str, ...] = CHEAP

    def suffices(self, questions: Sequence[str], vectors: npt.ArrayLike) -> Floats:
        """Calibrated probability [n] that the small tier's answer is as good as the large one's.

        Raises:
            IncompatibleError: the vectors [n, d] have another length than those it was fitted on.
        """
        inputs = inputs_of(questions, vectors)
        if inputs.shape[1] != len(self.weights):
            raise IncompatibleError(
                f"the router was trained on vectors of {len(self.weights) - len(self.cheap)} numbers, and these have "
                f"{inputs.shape[1] - len(self.cheap)}: train one with this embedder (`plinth train router`)"
            )
        return np.asarray(1 / (1 + np.exp(-np.clip(self.scores(inputs), -30, 30))))

    def scores(self, inputs: Floats) -> Floats:
        """The log-odds [n] of ``suffices``, of inputs [n, k]."""
        return np.asarray((inputs - np.array(self.mean)) / np.array(self.scale) @ np.array(self.weights) + self.bias)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return {"format": FORMAT, **asdict(self)}

    @classmethod
    def from_dict(cls, row: Any) -> Self:
        """The model out of plain JSON.

        Raises:
            IncompatibleError: another program's format, or other cheap features than this one counts.
            IntegrityError: it is none.
        """
        try:
            if row["format"] != FORMAT or tuple(row["cheap"]) != CHEAP:
                raise IncompatibleError("the router was made by another version of Plinth: train it again")
            mean, scale, weights = (tuple(map(float, row[name])) for name in ("mean", "scale", "weights"))
            made = cls(str(row["embedder"]), mean, scale, weights, float(row["bias"]))
        except (KeyError, TypeError, ValueError) as error:
            raise IntegrityError(f"{FILE} holds no router ({type(error).__name__}: {error}): train it again") from error
        whole = (*made.mean, *made.scale, *made.weights, made.bias)
        if not len(made.mean) == len(made.scale) == len(made.weights) > len(CHEAP):
            raise IntegrityError(f"{FILE} holds no router: its lists are not of one length; train it again")
        if not all(map(math.isfinite, whole)) or min(made.scale) <= 0:
            raise IntegrityError(f"{FILE} holds no router: there are no numbers in it; train it again")
        return made


@dataclass(frozen=True)
class RoutingPolicy:
    """What serve routes by: a router, and how sure it must be that the small tier suffices.

    Attributes:
        router: its name and version; threshold: the least probability with which the small tier is asked.
        target_cost: the share of the questions that the threshold was chosen to send to the larger tier.
        difficulty: the model itself.
    """

    router: str
    threshold: float
    target_cost: float
    difficulty: Difficulty

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return {**vars(self), "difficulty": self.difficulty.to_dict()}

    @classmethod
    def from_dict(cls, row: Any) -> Self:
        """The policy out of plain JSON.

        Raises:
            IncompatibleError, IntegrityError: as ``Difficulty.from_dict``.
        """
        try:
            router, threshold, cost = str(row["router"]), float(row["threshold"]), float(row["target_cost"])
            model = row["difficulty"]
        except (KeyError, TypeError, ValueError) as error:
            raise IntegrityError(f"{POLICY} holds no policy ({type(error).__name__}): {TUNE}") from error
        if not 0 <= threshold <= 1:
            raise IntegrityError(f"{POLICY} holds the threshold {threshold}, which is no probability: {TUNE}")
        return cls(router, threshold, cost, Difficulty.from_dict(model))
