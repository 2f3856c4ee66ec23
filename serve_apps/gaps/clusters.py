"""Unanswered questions that ask the same, put together: what is missing, how often it was asked, who could answer."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from data_jobs.retrieval.wording import text_stems
from serve_apps.gaps.book import Gap

ALIKE = 0.5  # share of the smaller question's words that two questions have in common


@dataclass(frozen=True)
class Cluster:
    """Questions that ask the same of the same collection.

    Attributes:
        id: short and stable as long as its first question is kept.
        question: the one asked most often, of equals the shortest.
        questions: all of them, each once.
        times, askers: how often it was asked, by how many that can be told apart.
        days: first and last day.
        not_found: words that the documents do not know, most frequent first.
        document, source, owner: the nearest document most of them had, where it is from and who should answer.
        index_versions: of the indexes that had no answer.
        collection: which one they are of; empty where nobody noted it, which means the default one.
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
    collection: str = ""
    answered_by: str = ""


def clusters(gaps: Sequence[Gap]) -> list[Cluster]:
    """The clusters, most often asked first. One pass: a question joins the first cluster it shares enough words with,
    by those of the cluster's first question."""
    groups: list[tuple[set[str], list[Gap]]] = []
    asked: dict[tuple[str, str], int] = {}  # the group that begins with a question of a collection
    holding: dict[tuple[str, str], list[int]] = {}  # the groups whose first question has a stem
    for gap in gaps:
        stems, of = text_stems(gap.question), gap.collection
        shared = Counter(group for stem in stems for group in holding.get((of, stem), ()))
        alike = [g for g, common in shared.items() if common > ALIKE * min(len(groups[g][0]), len(stems))]
        if (of, gap.question) in asked:
            alike.append(asked[of, gap.question])
        if alike:
            groups[min(alike)][1].append(gap)
            continue
        for stem in stems:
            holding.setdefault((of, stem), []).append(len(groups))
        asked[of, gap.question] = len(groups)
        groups.append((stems, [gap]))
    made = [_cluster(members) for _, members in groups]
    return sorted(made, key=lambda one: (-one.times, -one.askers, one.question))


def _cluster(members: Sequence[Gap]) -> Cluster:
    asked = Counter(gap.question for gap in members)
    near = Counter((gap.document, gap.source, gap.owner) for gap in members).most_common(1)[0][0]
    words = Counter(word for gap in members for word in gap.not_found)
    days = sorted(gap.day for gap in members)
    return Cluster(
        hashlib.sha256(f"{members[0].question}{members[0].collection}".encode()).hexdigest()[:8],
        min(asked, key=lambda question: (-asked[question], len(question), question)),
        tuple(asked),
        len(members),
        len({gap.asker for gap in members}),
        (days[0], days[-1]),
        tuple(word for word, _ in words.most_common(5)),
        *near,
        tuple(dict.fromkeys(gap.index_version for gap in members)),
        members[0].collection,
    )


def answered(found: Sequence[Cluster], live: Mapping[str, str], asks: Callable[[str, str], bool]) -> list[Cluster]:
    """The clusters with ``answered_by`` set where their collection's live index answers what an earlier one did not.

    Args:
        live: by collection the version of its live index, that of the default one under "" too; what it refused itself
            is not asked again.
        asks: whether a question is answered by a collection now.
    """
    made = []
    for one in found:
        version = live.get(one.collection, "")
        again = version and version not in one.index_versions
        made.append(replace(one, answered_by=version) if again and asks(one.question, one.collection) else one)
    return made
