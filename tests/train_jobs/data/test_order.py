from __future__ import annotations

import time
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from train_jobs.data.order import Order, Permutation, Places, Share


def numbered(places: Places) -> list[tuple[int, int, int]]:
    return list(zip(places.corpus.tolist(), places.epoch.tolist(), places.window.tolist(), strict=True))


@settings(max_examples=50, deadline=None)
@given(size=st.integers(1, 3000), seed=st.integers(0, 2**40))
def test_every_index_goes_to_a_place_of_its_own(size: int, seed: int) -> None:
    assert sorted(Permutation(size, (seed, 1))(np.arange(size)).tolist()) == list(range(size))


def test_an_index_goes_to_the_same_place_in_any_company() -> None:
    permutation = Permutation(10**11 + 7, (3,))
    indices = np.array([0, 5, 10**11, 10**11 + 6, 123_456_789])
    together = permutation(indices)
    assert together.tolist() == [int(permutation(indices[i : i + 1])[0]) for i in range(len(indices))]
    assert len(set(together.tolist())) == len(indices)
    assert (together < 10**11 + 7).all()


def test_places_are_spread_evenly_and_change_with_the_key() -> None:
    counts = np.zeros((6, 6))
    for seed in range(300):
        counts[np.arange(6), Permutation(6, (seed,))(np.arange(6))] += 1
    assert abs(counts - 50).max() < 42  # six standard deviations
    size = 10_000
    moved = Permutation(size, (0,))(np.arange(size))
    assert abs(np.corrcoef(np.arange(size), moved)[0, 1]) < 0.05
    assert (np.diff(moved) == 1).sum() < 10  # neighbours do not stay neighbours
    assert (moved == Permutation(size, (1,))(np.arange(size))).sum() < 15


def test_the_order_of_finished_runs_never_changes() -> None:
    """Runs resume by it: these places were noted once."""
    assert Permutation(1000, (0, 0, 0))(np.arange(5)).tolist() == NOTED


NOTED = [487, 718, 498, 570, 632]


def test_a_step_of_a_hundred_billion_samples_takes_less_than_a_millisecond() -> None:
    permutation = Permutation(10**11, (0,))
    indices = np.random.default_rng(0).integers(0, 10**11, 32)
    best = 1.0
    for _ in range(50):  # the best of many: the machine has other work
        began = time.perf_counter()
        permutation(indices)
        best = min(best, time.perf_counter() - began)
    assert best < 1e-3


# -- samples of several corpora ----------------------------------------------------------------------------------------
SHARES = st.builds(
    Share, windows=st.integers(1, 40), weight=st.floats(0.3, 3), epochs=st.integers(0, 3)
)  # fmt: skip


@settings(max_examples=25, deadline=None)
@given(shares=st.lists(SHARES, min_size=1, max_size=4), seed=st.integers(0, 99), start=st.integers(0, 300))
def test_one_epoch_takes_every_window_once_whatever_is_mixed(shares: list[Share], seed: int, start: int) -> None:
    order = Order(shares, seed)
    count = order.samples or max(order.epoch, start + 50)
    places = order(np.arange(count))
    seen = Counter(numbered(places))
    assert max(seen.values()) == 1
    for corpus, share in enumerate(shares):
        epochs = Counter(epoch for one, epoch, _ in seen if one == corpus)
        assert all(epochs[epoch] == share.windows for epoch in range(max(epochs)))  # all but the last are complete
        assert not share.epochs or max(epochs) < share.epochs
        assert not order.samples or sum(epochs.values()) == share.windows * share.epochs
    assert order.taken(count) == [int((places.corpus == n).sum()) for n in range(len(shares))]
    some = np.arange(min(start, count - 1), min(start + 20, count))
    assert numbered(order(some)) == numbered(places)[some[0] : some[-1] + 1]  # asked out of order, as a resumed run


def test_shares_hold_in_every_stretch_of_a_run() -> None:
    order = Order([Share(10**9, 0.7), Share(10**8, 0.2), Share(10**7, 0.1)], seed=1)
    for start in (0, 12_345, 10**11):
        corpus = order(np.arange(start, start + 100)).corpus
        assert abs(np.bincount(corpus, minlength=3) - [70, 20, 10]).max() <= 2


def test_a_corpus_that_reached_its_limit_leaves_its_share_to_the_others() -> None:
    order = Order([Share(100, 0.5, epochs=2), Share(100, 0.25), Share(100, 0.25)], seed=1)
    places = order(np.arange(1000))
    assert (places.corpus == 0).sum() == 200
    late = np.bincount(places.corpus[600:], minlength=3)
    assert abs(late - [0, 200, 200]).max() <= 1
    assert order.samples == 0
    assert order.epoch == next(n for n in range(1, 1000) if min(order.taken(n)) >= 100)


def test_weights_that_are_no_weights_are_refused() -> None:
    for weight in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="positive"):
            Order([Share(3, weight), Share(3)], 0)
