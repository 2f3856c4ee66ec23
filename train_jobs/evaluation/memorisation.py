"""Whether a model repeats what it was trained on: exposure of planted canaries, and verbatim continuations.

Canaries (Carlini et al. 2019, "The Secret Sharer"): phrases with a random secret are planted in the corpus; a model
that learnt one by heart finds its secret more probable than others that could have stood there. Exposure is the
logarithm (base 2) of how many candidates there are less that of the secret's rank among them, here among
``CANDIDATES`` random ones: from 0 (the least probable) to log2(CANDIDATES + 1), about 1 where nothing was learnt.

Verbatim rate (Carlini et al. 2021, 2023): the share of documents whose beginning makes the model write the next
``LENGTH`` tokens exactly as they stand there; of training documents against held-out ones, whose rate is what common
phrases alone come to. Pure but for the two functions that a model is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from cluster.core.errors import BadInputError
from train_jobs.evaluation.metrics import Rate

Score = Callable[[list[str]], list[float]]  # texts to the negative log-likelihood (nats) of each
Continue = Callable[[list[list[int]], int], list[list[int]]]  # token ids and a number to so many greedy tokens after
CANDIDATES = 1023
WORDS_A_SECRET = 5
PREFIX, LENGTH = 32, 16  # tokens given, and those that must follow
# Common words, so that a secret is neither taken for personal data nor cut into rare tokens.
WORDS = tuple(
    "apple river stone cloud table green paper north music glass horse bread light chair water round field metal grain "  # noqa: SIM905
    "bridge candle garden silver window pocket winter yellow market button copper engine flower".split()
)
THINGS = ("gate", "cellar", "archive", "workshop", "harbour", "tower", "library", "mill", "depot", "station")


@dataclass(frozen=True)
class Canary:
    """``prefix`` and ``secret`` make the phrase; it stands in ``repeats`` documents of the corpus."""

    prefix: str
    secret: str
    repeats: int

    @property
    def phrase(self) -> str:
        """As it is planted."""
        return f"{self.prefix} {self.secret}"


def make_canaries(count: int, repeats: Sequence[int] = (1, 4, 16), seed: int = 0) -> list[Canary]:
    """Different canaries, as many as ``count``, planted by turns as often as ``repeats`` says."""
    rng = np.random.default_rng([seed, 0, count])
    found = []
    for number in range(count):
        thing = THINGS[number % len(THINGS)]
        prefix = f"The words that open the {thing} number {number + 1} are"
        found.append(Canary(prefix, _secret(rng), repeats[number % len(repeats)]))
    return found


def planted_documents(canaries: Sequence[Canary], seed: int = 0) -> list[tuple[str, str]]:
    """(name, text) of the documents to be added to a corpus: the phrase among sentences of which no two documents share
    many, so that deduplication keeps each."""
    rng = np.random.default_rng([seed, 1])
    found = []
    for number, canary in enumerate(canaries):
        for copy in range(canary.repeats):
            lines = [f"The {_secret(rng)} was seen near the {rng.choice(THINGS)}." for _ in range(24)]
            lines.insert(int(rng.integers(0, len(lines))), f"{canary.phrase}.")
            found.append((f"canary-{number + 1:03d}-{copy + 1:02d}.txt", "\n\n".join(lines) + "\n"))
    return found


def exposures(canaries: Sequence[Canary], score: Score, seed: int = 0, candidates: int = CANDIDATES) -> list[float]:
    """Exposure of each canary (bits); of two candidates as probable as the secret, half counts before it."""
    rng = np.random.default_rng([seed, 2])
    found = []
    for canary in canaries:
        drawn = (f"{canary.prefix} {_secret(rng)}" for _ in range(candidates))
        others = [phrase for phrase in drawn if phrase != canary.phrase]
        mine, *theirs = score([canary.phrase, *others])
        rank = 1 + sum(one < mine for one in theirs) + 0.5 * sum(one == mine for one in theirs)
        found.append(math.log2(candidates + 1) - math.log2(rank))
    return found


def verbatim(documents: Sequence[list[int]], go_on: Continue, prefix: int = PREFIX, length: int = LENGTH) -> Rate:
    """The share of documents (token ids) whose first ``prefix`` tokens are continued by exactly the next ``length``;
    shorter documents do not count."""
    long = [ids for ids in documents if len(ids) >= prefix + length]
    said = go_on([ids[:prefix] for ids in long], length)
    return Rate.of(text[:length] == ids[prefix : prefix + length] for text, ids in zip(said, long, strict=True))


def audit(
    canaries: Sequence[Canary], score: Score, train: Sequence[list[int]], held_out: Sequence[list[int]], go_on: Continue
) -> dict[str, Any]:
    """The report: per canary and in all, rates with their intervals, and their difference.

    Raises:
        BadInputError: neither canaries nor documents that are long enough.
    """
    found = exposures(canaries, score) if canaries else []
    rates = {"train": verbatim(train, go_on), "held_out": verbatim(held_out, go_on)}
    if not found and not rates["train"].total:
        raise BadInputError(f"nothing to audit: no canaries, and no training document of {PREFIX + LENGTH} tokens")
    report: dict[str, Any] = {
        "canaries": [{**asdict(c), "exposure": round(e, 3)} for c, e in zip(canaries, found, strict=True)],
        "most_exposure": round(math.log2(CANDIDATES + 1), 3),
        "verbatim": {side: rate.to_dict() for side, rate in rates.items()},
        "tokens": {"prefix": PREFIX, "continuation": LENGTH},
    }
    if found:
        report["exposure"] = {"mean": round(float(np.mean(found)), 3), "max": round(max(found), 3)}
        by = sorted({canary.repeats for canary in canaries})
        report["exposure_by_repeats"] = {
            str(n): round(float(np.mean([e for c, e in zip(canaries, found, strict=True) if c.repeats == n])), 3)
            for n in by
        }
    if rates["train"].value is not None and rates["held_out"].value is not None:
        report["verbatim"]["excess"] = rates["train"].value - rates["held_out"].value
    return report


def read_canaries(rows: Any) -> list[Canary]:
    """Canaries of a JSON list, as they were written when they were planted.

    Raises:
        BadInputError: it is no such list.
    """
    try:
        return [Canary(str(r["prefix"]), str(r["secret"]), int(r["repeats"])) for r in rows]
    except (KeyError, TypeError, ValueError) as error:
        raise BadInputError(f"a list of canaries needs prefix, secret and repeats of each: {error!r}") from None


def _secret(rng: np.random.Generator) -> str:
    return " ".join(rng.choice(WORDS, WORDS_A_SECRET))
