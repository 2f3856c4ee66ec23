"""Lists are found from a sentence in them or before them, and are quoted whole."""

from __future__ import annotations

from data_jobs.retrieval.asking import form_of
from train_jobs.answering.forms.lists import ListFound, asks_for_list, list_at, shown_list

STEPS = """To create a backup, follow these steps:

1. Stop the broker with `tarn stop`.
2. Copy the folder to
   another disk.

   Wait until it is done.
3. Start the broker again.

Afterwards nothing else is to be done.
"""
BULLETS = "We support:\n\n- Debian 12\n- Ubuntu 24.04\n  - server only\n- FreeBSD 14\n\n## Next\n\n- other\n"


def found(text: str, part: str) -> ListFound | None:
    start = text.index(part)
    return list_at(text, start, start + len(part))


def test_the_whole_list_around_an_item_and_after_its_lead() -> None:
    for part in ("Copy the folder", "Stop the broker with", "To create a backup, follow these steps:", "Wait until"):
        one = found(STEPS, part)
        assert one is not None
        assert one.ordered
        assert len(one.items) == 3
        assert STEPS[one.lead_start : one.lead_end] == "To create a backup, follow these steps:"
        assert STEPS[one.start : one.end].endswith("Start the broker again.")


def test_items_below_an_item_and_other_lists_are_not_counted() -> None:
    one = found(BULLETS, "FreeBSD 14")
    assert one is not None
    assert (len(one.items), one.ordered) == (3, False)
    assert BULLETS[one.start : one.end] == "- Debian 12\n- Ubuntu 24.04\n  - server only\n- FreeBSD 14"


def test_prose_is_in_no_list_and_one_item_is_none() -> None:
    assert found(STEPS, "Afterwards nothing") is None
    assert found("Text.\n\n- one item\n\nMore text.", "one item") is None


def test_cut_after_whole_items() -> None:
    one = found(STEPS, "Start the broker")
    assert one is not None
    assert shown_list(STEPS, one, 100) == STEPS[one.start : one.end]
    cut = shown_list(STEPS, one, 20)
    assert cut.endswith("Wait until it is done.\n…")
    assert shown_list(STEPS, one, 3) == ""


def test_who_wants_the_whole_list() -> None:
    numbered, bullets = found(STEPS, "Copy the folder"), found(BULLETS, "Debian")
    assert numbered is not None
    assert bullets is not None
    assert asks_for_list(form_of("How do I create a backup?"), numbered, leads=False)
    assert not asks_for_list(form_of("How do I install it on Debian?"), bullets, leads=False)
    assert asks_for_list(form_of("Which platforms are supported?"), bullets, leads=False)
    assert not asks_for_list(form_of("When was it built?"), numbered, leads=False)
