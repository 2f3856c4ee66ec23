"""Unanswered questions that ask the same, put together: what is missing, how often it was asked, who could answer."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from data_jobs.retrieval.wording import text_stems
from serve_apps.gaps.book import Gap

ALIKE = 0.5  # share of the smaller question's words that two questions have in common


@dataclass(frozen=True)
class Cluster:
    """Questions that ask the same.

    Attributes:
        id: short and stable as long as its first question is kept.
        question: the one asked most often, of equals the shortest.
        questions: all of them, each once.
        times, askers: how often it was asked, by how many that can be told apart.
        days: first and last day.
        not_found: words that the documents do not know, most frequent first.
        document, source, owner: the nearest document most of them had, where it is from and who should answer.
        index_versions: of the indexes that had no answer.
        answered_by: the index version that answers it now; empty where none is known to.
    """

    id: str
    question: str
    questions: tuple[str, ...]
    times: int
    askers: int
    days: tuple[str, str]
    not_found: tuple[str, ...]
    document: str
    source: str
    owner: str
    index_versions: tuple[str, ...]
    answered_by: str = ""


def clusters(gaps: Sequence[Gap]) -> list[Cluster]:
    """The clusters, most often asked first. One pass: a question joins the first cluster it shares enough words with,
    by those of the cluster's first question."""
    groups: list[tuple[set[str], list[Gap]]] = []
    asked: dict[str, int] = {}  # the group that begins with a question
    holding: dict[str, list[int]] = {}  # the groups whose first question has a stem
    for gap in gaps:
        stems = text_stems(gap.question)
        shared = Counter(group for stem in stems for group in holding.get(stem, ()))
        alike = [g for g, common in shared.items() if common > ALIKE * min(len(groups[g][0]), len(stems))]
        if gap.question in asked:
            alike.append(asked[gap.question])
        if alike:
            groups[min(alike)][1].append(gap)
            continue
        for stem in stems:
            holding.setdefault(stem, []).append(len(groups))
        asked[gap.question] = len(groups)
        groups.append((stems, [gap]))
    made = [_cluster(members) for _, members in groups]
    return sorted(made, key=lambda one: (-one.times, -one.askers, one.question))


def _cluster(members: Sequence[Gap]) -> Cluster:
    asked = Counter(gap.question for gap in members)
    near = Counter((gap.document, gap.source, gap.owner) for gap in members).most_common(1)[0][0]
    words = Counter(word for gap in members for word in gap.not_found)
    days = sorted(gap.day for gap in members)
    return Cluster(
        hashlib.sha256(members[0].question.encode()).hexdigest()[:8],
        min(asked, key=lambda question: (-asked[question], len(question), question)),
        tuple(asked),
        len(members),
        len({gap.asker for gap in members}),
        (days[0], days[-1]),
        tuple(word for word, _ in words.most_common(5)),
        *near,
        tuple(dict.fromkeys(gap.index_version for gap in members)),
    )


def answered(found: Sequence[Cluster], live: str, asks: Callable[[str], bool]) -> list[Cluster]:
    """The clusters with ``answered_by`` set where the live index answers what an earlier one did not.

    Args:
        live: version of the live index; what it refused itself is not asked again.
        asks: whether a question is answered now.
    """
    made = []
    for one in found:
        again = live and live not in one.index_versions
        made.append(Cluster(**{**vars(one), "answered_by": live}) if again and asks(one.question) else one)
    return made
