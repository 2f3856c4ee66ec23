"""Who may see all that an artefact was made of: the access labels of every document behind it, however far back.

It asks for the few manifests that are behind it and imports next to nothing, as what trains depends on it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from cluster.core.access import access_counts
from cluster.core.records import Manifest
from cluster.core.storage import MANIFEST, Store

_REFERENCE = re.compile(r"([a-z0-9][a-z0-9._-]*)@([0-9a-f]{12})")


def labels_behind(store: Store, inputs: Mapping[str, object]) -> dict[str, dict[str, int]]:
    """What the counts of a manifest say of the labels of what it was made of, as ``access_counts`` has it; nothing
    where no document has one. By label the number of documents, of one that several count, the largest.

    Args:
        inputs: of the manifest; what is no ``name@version`` of this store counts nothing.

    Raises:
        IntegrityError: the manifest of one of them is damaged.
    """
    found: dict[str, int] = {}
    queue, seen = [str(value) for value in inputs.values()], set[str]()
    while queue:
        if (reference := queue.pop()) in seen:
            continue
        seen.add(reference)
        for manifest in _called(store, reference):
            labels = manifest.counts.get("access") or {}
            found |= {label: max(found.get(label, 0), count) for label, count in labels.items()}
            queue += manifest.inputs.values()
    return access_counts(found)


def _called(store: Store, reference: str) -> Iterator[Manifest]:
    """The artefacts of this name and version, of whatever kind."""
    if match := _REFERENCE.fullmatch(reference):
        for path in store.fs.glob(store.path("*", match[1], match[2], MANIFEST)):
            yield store.manifest(path.split("/")[-4], match[1], match[2])
