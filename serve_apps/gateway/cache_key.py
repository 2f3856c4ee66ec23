"""What makes two questions the same: everything that shapes an answer but the index, which ``cache.Grounds`` names.

Two questions with equal keys get the same answer from the same index. What is not in the key shapes none: the form of
the reply (a stream or not, which route), ``user``, and how busy the tiers are.
"""

from __future__ import annotations

import hashlib
import unicodedata
from dataclasses import dataclass, replace

from cluster.core.access import Rights
from cluster.core.config import PlinthConfig
from cluster.core.records import stable_hash
from serve_apps.gateway.exchange import Turns
from serve_apps.gateway.protocols import Sampling, TierState
from serve_apps.guards.characters import visible


@dataclass(frozen=True)
class Versions:
    """Of what holds for as long as a gateway runs: ``settings`` of prompts, answers and everything else, ``policy`` of
    the guards."""

    settings: str = ""
    policy: str = ""

    @classmethod
    def of(cls, config: PlinthConfig, code: str) -> Versions:
        """Those of a service. The settings are the whole configuration: a list of those that shape an answer would
        forget the next one.

        Args:
            code: hash of the served code, prompts and rules of the guards included.
        """
        guards = {"guards": config.serve.guards, "redact": config.data.redact, "names": config.data.names}
        return cls(stable_hash({"config": config.model_dump(), "code": code}), stable_hash({**guards, "code": code}))


@dataclass(frozen=True)
class CacheKey:
    """See the module.

    Attributes:
        rights: of who asks; answers never cross tenants, nor reach who may read other documents.
        model: what was asked for: a tier, or ``auto``.
        collection: as it was asked for; empty: the default one, whichever that is.
        tiers: those that may answer this key, with their models' versions (``settled``).
        router: version and threshold of the learned router where it has a say.
        plain: a prompt of the legacy route.
        turns: the conversation, ``normalised``.
    """

    rights: Rights
    model: str
    collection: str
    tiers: tuple[TierState, ...]
    router: str
    versions: Versions
    sampling: Sampling
    plain: bool
    turns: Turns

    @property
    def digest(self) -> str:
        """What it is kept under: nobody reads a question out of it."""
        return digest_of(self)


def digest_of(value: object) -> str:
    """Hex sha256 of a value that is made of plain and frozen parts; of this program alone."""
    return hashlib.sha256(repr(value).encode("ascii", "backslashreplace")).hexdigest()


def normalised(turns: Turns) -> Turns:
    """The turns as a reader sees them, whatever white space and whichever form of Unicode they are written with."""
    return tuple((role, " ".join(unicodedata.normalize("NFC", visible(text)).split())) for role, text in turns)


def settled(state: TierState) -> TierState:
    """What is known of a tier, without how busy, how quick and how awake it is."""
    return replace(state, latency_ms=0.0, ongoing=0, capacity=1, asleep=False)
