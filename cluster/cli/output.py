"""What the terminal sees: tables, progress bars, JSON. Nothing here knows what is being done."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from cluster.core.entry import check_interrupted
from cluster.core.entry import print_json as print_json

console = Console(highlight=False)
STATE_STYLE = {"ok": "green", "warn": "yellow", "bad": "red"}


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]], numeric: Sequence[str] = ()) -> None:
    table = Table(
        title=title or None, title_justify="left", title_style="bold", header_style="bold", box=None, pad_edge=False
    )
    for column in columns:
        table.add_column(column, justify="right" if column in numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(cell if isinstance(cell, str) else str(cell) for cell in row))
    console.print(table)


@dataclass
class Stages:
    """Runs named stages one after the other with a progress bar, and remembers the seconds of each.

    Implements ``cluster.core.progress.Progress``: work inside a stage reports its own steps through ``stage``,
    ``advance`` and ``counts``. Quiet (``show=False``) it only keeps the times.
    """

    show: bool = True
    seconds: dict[str, float] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)
    current: str = ""
    _bars: Progress | None = None
    _task: TaskID | None = None
    _detail: str = ""

    @contextmanager
    def run(self, name: str) -> Iterator[None]:
        check_interrupted()
        started = time.monotonic()
        self.current, self._detail = name, ""
        with self._progress() as bars:
            self._bars, self._task = bars, bars.add_task(name, total=None, detail="")
            try:
                yield
                check_interrupted()
            finally:
                self.seconds[name] = self.seconds.get(name, 0.0) + time.monotonic() - started
                self._bars = self._task = None
        if self.show:
            note = self.notes.get(name, "")
            console.print(f"[green]✓[/green] {name:<34} {self.seconds[name]:6.1f} s  [dim]{note}[/dim]")

    def note(self, text: str) -> None:
        """What the finished stage's line says (counts, 'reused')."""
        self.notes[self.current] = text

    def stage(self, name: str, total: int | None = None, unit: str = "") -> None:
        if self._bars is not None and self._task is not None:
            self._bars.reset(self._task, total=total, completed=0, description=f"{self.current}: {name}", detail=unit)

    def advance(self, amount: int = 1) -> None:
        check_interrupted()
        if self._bars is not None and self._task is not None:
            self._bars.advance(self._task, amount)

    def counts(self, **counts: float) -> None:
        if self._bars is not None and self._task is not None:
            text = " ".join(f"{name.replace('_', ' ')} {value:,}" for name, value in counts.items())
            self._bars.update(self._task, detail=text)

    def table(self) -> None:
        total = sum(self.seconds.values())
        rows = [(name, f"{value:.1f}", self.notes.get(name, "")) for name, value in self.seconds.items()]
        print_table("Stages", ("stage", "seconds", ""), [*rows, ("total", f"{total:.1f}", "")], numeric=("seconds",))

    def _progress(self) -> Progress:
        return Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=28),
            MofNCompleteColumn(),
            TextColumn("[dim]{task.fields[detail]}"),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            disable=not (self.show and sys.stdout.isatty()),
        )


def human_bytes(size: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024 or unit == "GiB":
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    raise AssertionError("unreachable")
