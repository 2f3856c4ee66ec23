"""W3C Trace Context: what is taken over, and what is as good as nothing."""

from __future__ import annotations

import pytest

from cluster.core.trace import CURRENT, Trace, carried

ID, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@pytest.mark.parametrize(
    ("header", "sampled"),
    [
        (f"00-{ID}-{SPAN}-01", True),
        (f"00-{ID}-{SPAN}-00", False),
        (f" 00-{ID}-{SPAN}-03\t", True),
        (f"01-{ID}-{SPAN}-01", True),
        (f"cc-{ID}-{SPAN}-01-what-the-future-brings", True),
    ],
)
def test_a_trace_is_taken_over(header: str, sampled: bool) -> None:
    trace = Trace.taken_over(header)
    assert (trace.trace_id, trace.parent_id, trace.sampled) == (ID, SPAN, sampled)
    assert trace.span_id not in (SPAN, "0" * 16)
    assert Trace.read(trace.header) == Trace(ID, trace.span_id, flags=int(sampled))


@pytest.mark.parametrize(
    "header",
    [
        "", "00", f"00-{ID}-{SPAN}", f"00-{ID}-{SPAN}-1", f"00-{ID}-{SPAN}-01-", f"00-{ID}-{SPAN}-01-more",
        f"ff-{ID}-{SPAN}-01", f"00-{'0' * 32}-{SPAN}-01", f"00-{ID}-{'0' * 16}-01", f"00-{ID.upper()}-{SPAN}-01",
        f"00-{ID[:-1]}-{SPAN}-01", f"00-{ID}-{SPAN}g-01", f"00-{ID}-{SPAN}-0x", f"00_{ID}_{SPAN}_01",
        f"00-{ID}-{SPAN}-01\n", f"00-{'٣' * 32}-{SPAN}-01", f"00-{ID}-{SPAN}-01,00-{ID}-{SPAN}-01",
    ],
    ids=ascii,
)  # fmt: skip
def test_what_is_malformed_begins_a_new_trace(header: str) -> None:
    assert Trace.read(header) is None
    trace = Trace.taken_over(header)
    assert trace.trace_id not in (ID, "0" * 32)
    assert (len(trace.trace_id), len(trace.span_id), trace.parent_id, trace.sampled) == (32, 16, "", True)


def test_a_part_belongs_to_the_whole() -> None:
    whole = Trace.new()
    part = whole.within()
    assert (part.trace_id, part.parent_id) == (whole.trace_id, whole.span_id)
    assert part.span_id != whole.span_id


def test_what_goes_into_another_process() -> None:
    assert carried() == {}
    trace = Trace.new()
    token = CURRENT.set(trace)
    try:
        assert carried() == {"traceparent": trace.header}
    finally:
        CURRENT.reset(token)
