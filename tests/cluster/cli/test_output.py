"""What the terminal sees: words, ids and versions stay whole, whatever the width; no Python dict."""

from __future__ import annotations

import pytest
from rich.text import Text

from cluster.cli import output
from cluster.cli.output import WordWrap, fold, plain, print_facts, print_table, printable

ID = "pretrain-small-0f3c9a1b2c4d5e6f"
SHA = "a6c5eef4a5386ec6830e660164fa12e96c71740956702b7b7ae8b2d260efee2a"


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(output.console, "width", 80)
    return 80


def test_a_table_keeps_ids_whole_and_folds_prose(narrow: int, capsys: pytest.CaptureFixture[str]) -> None:
    prose = "interrupted while the disk was full; running the same command again resumes it from its checkpoint"
    print_table("Runs", ("run", "state", "why", "loss"), [(ID, "[red]failed[/red]", prose, 1.5)], numeric=("loss",))
    said = capsys.readouterr().out
    assert ID in said
    assert set(prose.split()) <= set(said.split())
    assert max(map(len, said.splitlines())) <= narrow


@pytest.mark.parametrize("state", ["done", "finished", "interrupted"])
def test_the_last_column_is_never_cut_off(narrow: int, capsys: pytest.CaptureFixture[str], state: str) -> None:
    """Rich would cut it: a number with its unit stays on one line, and an id is wider than its share."""
    columns = ("run", "state", "started", "took", "steps", "loss", "held out")
    row = ("pretrain-5ce221fb3bd6770c", state, "2026-11-29 21:48", "65.1 s", 20, "4.1763", "4.2191")
    print_table("Runs", columns, [row], numeric=columns[3:])
    said = capsys.readouterr().out
    assert all(word in said for word in ("pretrain-5ce221fb3bd6770c", "65.1 s", "4.1763", "4.2191", "held out"))
    assert max(map(len, said.splitlines())) <= narrow


def test_a_table_too_wide_becomes_a_block_of_lines_a_row(narrow: int, capsys: pytest.CaptureFixture[str]) -> None:
    columns = ("dataset", "file sha256", "kept", "version")
    print_table("Datasets", columns, [("notes", SHA, 3, ID), ("other", SHA, 4, "")])
    lines = capsys.readouterr().out.splitlines()
    assert lines[:4] == ["Datasets", "notes", f"  file sha256  {SHA}", "  kept         3"]
    assert f"  version      {ID}" in lines
    assert max(map(len, lines)) <= narrow


def test_facts_are_folded_under_each_other(narrow: int, capsys: pytest.CaptureFixture[str]) -> None:
    print_facts([("inputs", {"dataset": f"notes@{SHA}"}), ("languages", {"en": 12, "de": None}), ("live", True)])
    said = capsys.readouterr().out
    assert said.splitlines()[0].startswith("inputs     dataset")
    assert f"notes@{SHA}" in said
    assert "languages  en 12, de -" in said
    assert "live       yes" in said
    assert not set("{}'") & set(said)


def test_plain_writes_no_python() -> None:
    assert plain({"a": [1, 2], "b": {"c": None}}) == "a 1, 2, b c -"
    assert plain([]) == plain({}) == plain(None) == plain("") == "-"
    assert plain(False) == "no"


def test_fold_breaks_at_blanks_only() -> None:
    text = fold([("one two", ""), (SHA, "bold"), ("three", "")], 20, "> ", "    ").plain
    assert text.splitlines() == ["> one two", f"    {SHA}", "    three"]


def test_fold_puts_a_word_without_room_below_what_stands_before_it() -> None:
    assert fold([("abc defghij k", "")], 12, "12345678  ", "  ").plain.splitlines() == [
        "12345678  ",
        "  abc",
        "  defghij k",
    ]
    assert fold([("", "")], 10, "> ").plain == "> "


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_a_stream_breaks_no_word_however_it_is_cut(size: int, capsys: pytest.CaptureFixture[str]) -> None:
    text = "Replace the impeller seal of the bilge pump every 400 hours.\n\n    code stays  indented\n\x1b[31mred"
    write = WordWrap(24)
    for at in range(0, len(text), size):
        write(text[at : at + size])
    write.end()
    said = capsys.readouterr().out
    assert said.splitlines() == [
        "Replace the impeller", "seal of the bilge pump", "every 400 hours.", "", "    code stays  indented",
        "\\u001b[31mred",
    ]  # fmt: skip


def test_a_script_without_blanks_is_not_held_back(capsys: pytest.CaptureFixture[str]) -> None:
    write = WordWrap(10)
    write("駅までの道を教えてください")
    assert capsys.readouterr().out != "", "written before the word ends"


@pytest.mark.parametrize(("passed", "verdict"), [(True, "passed"), (False, "refused")])
def test_a_gates_title_is_text_and_no_markup(passed: bool, verdict: str, capsys: pytest.CaptureFixture[str]) -> None:
    from cluster.cli.training import print_gate

    print_gate("small", {"passed": passed, "checks": []})
    shown = capsys.readouterr().out
    assert f"Gate of small: {verdict}" in shown
    assert "[" not in shown


@pytest.mark.parametrize("said", ["[/bold]", "[link=http://x]y[/link]", "[red]stop", "\x1b[2J\x7f\x9b", "a[b"])
def test_what_others_wrote_is_no_markup(said: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A client's model name stands in the audit log: it neither breaks a table nor paints or steers the terminal."""
    print_table("Log", ("n", "said"), [("1", said), ("2", Text("up", "green"))])
    shown = capsys.readouterr().out
    assert printable(said) in shown
    assert shown.replace("\n", "").isprintable()
