"""One index as several people see it: for each set of documents somebody may read, a searcher that knows of no others.

A view is a searcher over the chunks that one may read, and over nothing else. So whatever a search looks at or says is
made of those alone: ranks, weights of words, spelling, names, outlines, editions, examples, features. There is no place
where a mask could be forgotten, and the recall is that of an index of these documents. The price is time before the
first question of each such set, and memory: chunks and vectors of the parts are shared as far as they are objects, the
postings are not. An index without labels has one view, which is itself.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection
from threading import Lock
from typing import TYPE_CHECKING

from cluster.core.access import Rights, readable

if TYPE_CHECKING:
    from data_jobs.retrieval.search import Searcher

MOST_TIMES = 2
"""Views together hold at most so many times the chunks of the index; the longest unused one goes first."""


class Views:
    """The views of one index. Made and found from any thread; searching in them is as thread-safe as in any other.

    Args:
        whole: the searcher of the whole index.
    """

    def __init__(self, whole: Searcher) -> None:
        self._whole = whole
        self._labels = frozenset(chunk.access for chunk in whole.snapshot.chunks)
        self._views: OrderedDict[frozenset[str], Searcher] = OrderedDict()
        self._making, self._changing = Lock(), Lock()

    def known(self, who: Rights) -> Searcher | None:
        """What somebody with these rights searches in, where that is there already."""
        labels = readable(self._labels, who)
        if labels == self._labels:
            return self._whole
        with self._changing:
            if (view := self._views.get(labels)) is not None:
                self._views.move_to_end(labels)
            return view

    def of(self, who: Rights) -> Searcher:
        """What somebody with these rights searches in; made where it is not there, which takes as long as loading an
        index of that many chunks. One is made at a time."""
        with self._making:
            if (view := self.known(who)) is not None:
                return view
            labels = readable(self._labels, who)
            view = self._whole.of_part(self._whole.snapshot.readable(labels))
            view.warm()
            with self._changing:  # what is hidden meanwhile is hidden in this one too
                view.hide(self._whole.unnamed)
                self._views[labels] = view
                self._make_room()
            return view

    def hide(self, documents: Collection[str]) -> None:
        """See ``Searcher.hide``."""
        with self._changing:
            for view in self._views.values():
                view.hide(documents)

    def _make_room(self) -> None:
        most = MOST_TIMES * len(self._whole.snapshot.chunks)
        while len(self._views) > 1 and sum(len(view.snapshot.chunks) for view in self._views.values()) > most:
            self._views.popitem(last=False)
