"""Which replica has read the beginning of a prompt before: its engine holds that and reads only the rest. Pure.

A prompt is taken as a chain of blocks (instruction and model are the same for all of a tier): the passages in their
order, or a plain prompt cut into pieces. Each link stands for all blocks up to it, so two prompts share as many links
as they have blocks in common from the start. The replica that answered the longest common beginning is preferred, as
long as it is not much busier than others: what its cache saves is less than what a queue costs.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence

from data_jobs.retrieval.results import Retrieval

MOST_LINKS = 8192  # beginnings that are remembered, those met last
SLACK = 2  # answers that the preferred replica may have under way beyond those of the least busy one
PIECE = 512  # characters of a plain prompt in one block
MOST_BLOCKS = 16  # of one prompt; longer ones are told apart well enough

Chain = tuple[bytes, ...]


def blocks_of(call: Sequence[object]) -> list[str]:
    """The blocks of what a tier is asked: its passages in order (``stream``), or pieces of a prompt (``complete``).

    Args:
        call: positional arguments of the call.
    """
    found = next((part for part in call if isinstance(part, Retrieval)), None)
    if found is not None:
        return [f"{found.index_version} {passage.chunk}" for passage in found.passages[:MOST_BLOCKS]]
    prompt = call[0] if call and isinstance(call[0], str) else ""
    return [prompt[start : start + PIECE] for start in range(0, min(len(prompt), PIECE * MOST_BLOCKS), PIECE)]


def chain_of(blocks: Iterable[str]) -> Chain:
    """One link for each block, made of it and all before it."""
    links: list[bytes] = []
    for block in blocks:
        before = links[-1] if links else b""
        links.append(hashlib.blake2b(before + block.encode(errors="replace"), digest_size=12).digest())
    return tuple(links)


class Affinity:
    """Who answered what before. For one event loop; not thread-safe.

    Args:
        most: links that are remembered.
        slack: see ``SLACK``.
    """

    def __init__(self, most: int = MOST_LINKS, slack: int = SLACK) -> None:
        self._most, self._slack = most, slack
        self._seen: OrderedDict[bytes, dict[str, None]] = OrderedDict()

    def preferred(self, chain: Chain, load: Mapping[str, int]) -> str | None:
        """The replica that should answer; None where nobody knows the beginning, or whoever does is too busy.

        Args:
            load: answers under way in each replica there is.
        """
        least = min(load.values(), default=0)
        for link in reversed(chain):
            know = [name for name in self._seen.get(link, ()) if name in load and load[name] <= least + self._slack]
            if know:
                return min(know, key=lambda name: load[name])
        return None

    def note(self, chain: Chain, replica: str) -> None:
        """Remember that a replica reads this now."""
        for link in chain:
            self._seen.setdefault(link, {})[replica] = None
            self._seen.move_to_end(link)
        while len(self._seen) > self._most:
            self._seen.popitem(last=False)

    def forget(self, replica: str) -> None:
        """Forget a replica that is no more, and with it what nobody else knows."""
        for link in [link for link, names in self._seen.items() if replica in names]:
            del self._seen[link][replica]
            if not self._seen[link]:
                del self._seen[link]
