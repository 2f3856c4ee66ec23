"""The conversation of ``plinth ask``: line editing, history, what is sent of a long talk."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cluster.cli.output import WordWrap, console, printable
from cluster.core.entry import check_interrupted
from cluster.core.errors import ExitCode, PlinthError, UsageError
from cluster.core.home import Home

if TYPE_CHECKING:
    from cluster.core.sections.serve import ServeSection

HISTORY_LINES = 1000
LEAVE = ("exit", "quit", "/exit", "/quit")
HELP = """\
Write a question; follow-ups remember what was said.
  /sources      the sources of the last answer
  /sources N    the passage behind citation [N]
  /help         this
  exit          leave (or Ctrl-D)
Ctrl-C stops an answer. Arrow keys edit a line and bring earlier questions back."""


Messages = list[dict[str, str]]


def converse(ask: Callable[[Messages], dict[str, Any]], home: Home, limits: ServeSection) -> int:
    """Ask until the person leaves. What fails or is stopped is said, and the talk goes on. The exit code is 0, but of a
    talk that is no person's (piped) that of its last failure.

    Args:
        ask: puts messages to the service, writes the answer as it comes and returns it (``ask.ask_and_print``).
        limits: how much the service accepts in one call.

    Raises:
        UsageError: the service knows no such model.
    """
    messages: Messages = []
    answer: dict[str, Any] = {}
    ended: int = ExitCode.DONE
    if sys.stdin.isatty():
        console.print("[dim]Ask something; /help shows what else can be done, exit leaves.[/dim]")
    with _line_editing(home.folder("run").parent / "ask_history"), _interruptible():
        while (line := _next_line()) is not None:
            if line.startswith("/"):
                _command(line, answer)
                continue
            asked = [*messages, {"role": "user", "content": line}]
            try:
                answer = ask(last_turns(asked, limits.max_messages, limits.max_prompt_chars))
            except UsageError:
                raise
            except PlinthError as error:
                console.print(f"plinth: {error.message}", style="red", markup=False)
                ended = error.exit_code
            except KeyboardInterrupt:
                check_interrupted()  # SIGTERM, which ends the talk too
                console.print("[dim]stopped; that question is left out of the talk[/dim]")
            else:
                messages = [*asked, {"role": "assistant", "content": answer["text"]}]
    return ExitCode.DONE if sys.stdin.isatty() else ended


def last_turns(messages: Messages, most: int, characters: int) -> Messages:
    """The newest messages that a service accepts: whole turns, so that the first one sent is a question.

    The last question is always among them: if it alone is too long, the service says so.
    """
    kept = len(messages) - 1
    room = characters - len(messages[kept]["content"])
    for start in range(kept - 1, -1, -1):
        room -= len(messages[start]["content"])
        if room < 0 or len(messages) - start > most:
            break
        if messages[start]["role"] == "user":
            kept = start
    return messages[kept:]


def _next_line() -> str | None:
    """The next line that is not empty; None when the person leaves."""
    while True:
        try:
            line = input("you> " if sys.stdin.isatty() else "").strip()
        except EOFError:
            if sys.stdin.isatty():
                print()
            return None
        except KeyboardInterrupt:
            check_interrupted()
            print("\n(exit or Ctrl-D leaves)")
            continue
        if line in LEAVE:
            return None
        if line:
            return line


def _command(line: str, answer: dict[str, Any]) -> None:
    word, _, rest = line.partition(" ")
    if word == "/sources":
        _show_sources(rest.strip(), answer.get("plinth", {}).get("citations", []))
    else:
        if word != "/help":
            print(f"There is no {printable(word)}.")
        print(HELP)


def _show_sources(number: str, citations: list[dict[str, Any]]) -> None:
    if not citations:
        print("There is no answer with sources yet.")
    elif not number:
        for place, citation in enumerate(citations, start=1):
            print(f"  [{place}] {printable(citation['document'])}: {printable(citation['title'])}")
    elif not number.isdecimal() or not 1 <= int(number) <= len(citations):
        print(f"The last answer has the sources 1 to {len(citations)}.")
    else:
        citation = citations[int(number) - 1]
        console.print(f"[{number}] {printable(citation['document'])}", style="bold", markup=False, soft_wrap=True)
        console.print(printable(citation["source"]), style="dim", markup=False, soft_wrap=True)
        for copy in citation.get("also", []):
            console.print(printable(f"also in {copy['document']}"), style="dim", markup=False, soft_wrap=True)
        write = WordWrap()
        write(citation["text"])
        write.end()


@contextlib.contextmanager
def _line_editing(history: Path) -> Iterator[None]:
    """Arrow keys and a history over sessions, in a file only its owner reads. Without a terminal: nothing."""
    if not sys.stdin.isatty():
        yield
        return
    import readline

    with contextlib.suppress(OSError):
        os.close(os.open(history, os.O_CREAT | os.O_WRONLY, 0o600))
        history.chmod(0o600)
        readline.read_history_file(history)
    readline.set_history_length(HISTORY_LINES)
    readline.set_auto_history(True)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # a full disk must not turn a talk into an error
            readline.write_history_file(history)
            history.chmod(0o600)


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """Ctrl-C is an ordinary KeyboardInterrupt here, which stops one answer instead of the process."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
