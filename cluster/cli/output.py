"""What the terminal sees: tables, progress bars, JSON. Nothing here knows what is being done."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from cluster.core.entry import check_interrupted
from cluster.core.entry import print_json as print_json
from cluster.core.plain_text import printable as printable
from cluster.core.progress import FIRST_TICK_S, TICK_S, Silent, Steps, ticking
from cluster.core.progress import Progress as Follower


class _Console(Console):
    def on_broken_pipe(self) -> None:
        raise BrokenPipeError  # `plinth ... | head` is no failure: ``run_main`` ends it with 0, rich would with 1


console = _Console(highlight=False)
STATE_STYLE = {"ok": "green", "warn": "yellow", "bad": "red"}


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]], numeric: Sequence[str] = ()) -> None:
    """A table whose words, ids and versions stay whole; where they do not fit side by side, a block of lines a row.

    A cell is shown as it reads, nothing in it is markup or steers the terminal; a ``Text`` brings a style of its own.
    """
    cells = [[_cell(cell) for cell in row] for row in rows]
    least, whole = list[int](), list[int]()
    for name, column in zip(columns, [[row[place] for row in cells] for place in range(len(columns))], strict=True):
        whole.append(max([cell_len(name), *(cell_len(cell.plain) for cell in column)]))
        one_line = name in numeric
        least.append(whole[-1] if one_line else max([cell_len(name), *(_longest_word(cell) for cell in column)]))
    if title:
        console.print(fold([(printable(title), "bold")], console.width, then=""), soft_wrap=True)
    room = console.width - 2 * (len(columns) - 1)
    if sum(least) > room:
        _print_blocks(columns, cells)
        return
    # Rich takes what is too much from the widest column, ids too, and cuts the last one off: so widths are given.
    for place in sorted(range(len(columns)), key=lambda place: least[place] - whole[place]):
        whole[place] = max(least[place], whole[place] - max(0, sum(whole) - room))
    table = Table(header_style="bold", box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=any(columns))
    for name, width in zip(columns, whole, strict=True):
        right = name in numeric
        table.add_column(name, justify="right" if right else "left", width=width, no_wrap=right, overflow="fold")
    for row in cells:
        table.add_row(*row)
    console.print(table)


def _cell(value: Any) -> Text:
    if isinstance(value, Text):
        return value
    return Text(printable(value if isinstance(value, str) else plain(value)))


def _print_blocks(columns: Sequence[str], cells: Sequence[Sequence[Text]]) -> None:
    for row in cells:
        console.print(row[0], style="bold", soft_wrap=True)
        print_facts([(name, cell.plain) for name, cell in zip(columns[1:], row[1:], strict=True) if cell.plain], "  ")


def print_facts(facts: Iterable[tuple[str, Any]], before: str = "") -> None:
    """``name  value`` a line, values under each other and folded at words; plain text, no markup."""
    lines = [(name, value if isinstance(value, str) else plain(value)) for name, value in facts]
    width = max((cell_len(name) for name, _ in lines), default=0)
    for name, value in lines:
        start = f"{before}{name:<{width}}  "
        console.print(fold([(printable(value), "")], console.width, start, " " * len(start)), soft_wrap=True)


def plain(value: Any) -> str:
    """A value as people write it: no Python dict, list or None."""
    if value is None or value == "":
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return ", ".join(f"{name} {plain(inner)}" for name, inner in value.items()) or "-"
    if isinstance(value, list | tuple | set | frozenset):
        return ", ".join(map(plain, value)) or "-"
    return str(value)


def _longest_word(cell: Text) -> int:
    return max(map(cell_len, cell.plain.split()), default=0)


@dataclass
class Stages:
    """Runs named stages one after the other, shows how far they are, and remembers the seconds of each.

    Implements ``cluster.core.progress.Progress``: work inside a stage reports its own steps through ``stage``,
    ``advance``, ``counts`` and ``waits``. On a terminal a bar moves; elsewhere a line is printed after
    ``first_tick_s`` seconds, then in pauses that double up to ``tick_s`` seconds, so that a log shows that something
    goes on. Quiet (``show=False``) it only keeps the times. What is reported
    goes on to ``follower``, the job book.
    """

    show: bool = True
    follower: Follower = field(default_factory=Silent)
    seconds: dict[str, float] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    current: str = ""
    tick_s: float = TICK_S
    first_tick_s: float = FIRST_TICK_S
    _bars: Progress | None = None
    _task: TaskID | None = None
    _steps: Steps = field(default_factory=Steps)

    @contextmanager
    def run(self, name: str) -> Iterator[None]:
        """One stage: ticked off at its end, unless it raises or was skipped."""
        check_interrupted()
        started = time.monotonic()
        self.follower.stage(name)
        self.current, self._steps = name, Steps(began=started)
        with self._progress() as bars, self._ticking(started):
            self._bars, self._task = bars, bars.add_task(name, total=None, detail="")
            try:
                yield
                check_interrupted()
            finally:
                self.seconds[name] = self.seconds.get(name, 0.0) + time.monotonic() - started
                self._bars = self._task = None
        self._tick_off(name)

    def note(self, text: str) -> None:
        """What the finished stage's line says (counts, 'reused')."""
        self.notes[self.current] = text

    def skip(self, name: str, why: str) -> None:
        """Say that a stage was not carried out, or not to its end, and why."""
        self.skipped[name] = why
        self._tick_off(name)

    def stage(self, name: str, total: int | None = None, unit: str = "") -> None:
        self.follower.stage(f"{self.current}: {name}", total, unit)
        self._steps = Steps(name, total, unit, began=time.monotonic())
        if self._bars is not None and self._task is not None:
            self._bars.reset(self._task, total=total, completed=0, description=f"{self.current}: {name}", detail=unit)

    def advance(self, amount: int = 1) -> None:
        check_interrupted()
        self.follower.advance(amount)
        self._steps.done += amount
        if self._bars is not None and self._task is not None:
            self._bars.advance(self._task, amount)

    def counts(self, **counts: float) -> None:
        self.follower.counts(**counts)
        self._steps.tell(counts)
        if self._bars is not None and self._task is not None:
            self._bars.update(self._task, detail=self._steps.detail)

    def waits(self, what: str) -> None:
        check_interrupted()
        self.follower.waits(what)
        self._steps.detail = what
        if self._bars is not None and self._task is not None:
            self._bars.update(self._task, detail=what or self._steps.unit)

    def table(self) -> None:
        """All stages with their seconds."""
        total = sum(self.seconds.values())
        rows = [(name, f"{value:.1f}", self._said(name)) for name, value in self.seconds.items()]
        print_table("Stages", ("stage", "seconds", ""), [*rows, ("total", f"{total:.1f}", "")], numeric=("seconds",))

    def _said(self, name: str) -> str:
        return f"skipped: {self.skipped[name]}" if name in self.skipped else self.notes.get(name, "")

    def _tick_off(self, name: str) -> None:
        if not self.show:
            return
        mark, style = ("-", "yellow") if name in self.skipped else ("✓", "green")
        head = f"{mark} {name:<34} {self.seconds.get(name, 0.0):6.1f} s  "
        line = fold([(self._said(name), "dim")], console.width, head)
        line.stylize(style, 0, len(mark))
        console.print(line, soft_wrap=True)

    @contextmanager
    def _ticking(self, started: float) -> Iterator[None]:
        """Prints where the stage is, soon and then every ``tick_s`` seconds, from a thread, whatever it waits for."""
        if not self.show or sys.stdout.isatty():
            yield
            return

        def tell() -> None:
            line = self._steps.line(self.current, started, time.monotonic())
            console.print(fold([(line, "")], console.width, "  "), soft_wrap=True, markup=False)

        with ticking(tell, self.first_tick_s, self.tick_s):
            yield

    def _progress(self) -> Progress:
        return Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=16),
            MofNCompleteColumn(),
            TextColumn("[dim]{task.fields[detail]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not (self.show and sys.stdout.isatty()),
        )


def fold(parts: Iterable[tuple[str, str]], width: int | None = None, first: str = "", then: str = "    ") -> Text:
    """(Text, style) parts in lines of at most ``width`` columns, broken at blanks only; a longer word stands whole.

    Args:
        width: by default the terminal's (or COLUMNS); what goes into a file or a pipe stays one line.
        first, then: blanks before the first line and before the others.

    Print it with ``soft_wrap=True``: it is folded already.
    """
    width = width or _width()
    text, column, begun = Text(first), cell_len(first), False
    for word, style in ((word, style) for part, style in parts for word in part.split()):
        if column + begun + cell_len(word) > width and (begun or column > len(then)):
            text.append("\n" + then)
            column, begun = len(then), False
        text.append(" " * begun + word, style)
        column += begun + cell_len(word)
        begun = True
    return text


def _width() -> int:
    return console.width if sys.stdout.isatty() or "COLUMNS" in os.environ else sys.maxsize


class WordWrap:
    """Writes streamed text in lines that fit the terminal: a word is written when it is whole, never broken.

    Into a file or a pipe the text goes as it comes. ``end`` writes what is left.
    """

    def __init__(self, width: int | None = None) -> None:
        self._width = width or _width()
        self._column = 0
        self._word = self._blanks = ""

    def __call__(self, text: str) -> None:
        for character in printable(text):
            if not character.isspace():
                self._word += character
                if cell_len(self._word) >= self._width:  # no word of ours: a script without blanks, a long address
                    self._put_word()
                continue
            self._put_word()
            if character == "\n":
                sys.stdout.write("\n")
                self._column, self._blanks = 0, ""
            else:
                self._blanks += character
        if self._width == sys.maxsize:
            self._put_word()
        sys.stdout.flush()

    @property
    def begun(self) -> bool:
        """Whether a line is begun and not ended."""
        return bool(self._column or self._word)

    def end(self) -> None:
        """Write the word still held back and end the line."""
        self._put_word()
        sys.stdout.write("\n")
        sys.stdout.flush()

    def _put_word(self) -> None:
        if not self._word:
            return
        size = cell_len(self._word)
        if self._column and self._column + len(self._blanks) + size > self._width:
            sys.stdout.write("\n" + self._word)
            self._column = size
        else:
            sys.stdout.write(self._blanks + self._word)
            self._column += len(self._blanks) + size
        self._word = self._blanks = ""


def human_bytes(size: float) -> str:
    """A number of bytes in the unit that suits it, ``512 B`` or ``1.5 KiB`` up to GiB (1024 of each make the next)."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024 or unit == "GiB":
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    raise AssertionError("unreachable")
