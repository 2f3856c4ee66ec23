"""How a command-line entry point ends: errors become one line and an exit code, never a traceback a user must read."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NoReturn, TextIO

from cluster.core.errors import ExitCode, PlinthError
from cluster.core.home import Home
from cluster.core.plain_text import printable

if TYPE_CHECKING:
    from cluster.core.config import PlinthConfig

_answers: TextIO | None = None  # the real stdout while a verb runs with --json


def answers() -> TextIO:
    """Where the answer of a verb goes: stdout, also while libraries' prints are kept off it (see ``run_main``)."""
    return _answers or sys.stdout


def print_json(value: Any, indent: int | None = 1) -> None:
    """Print the answer of a verb that was asked for JSON. Nothing else reaches stdout then (see ``run_main``).

    A verb that prints as it goes gives one object a line, with ``indent=None``.
    """
    print(json.dumps(value, indent=indent, default=str, ensure_ascii=False), file=_answers or sys.stdout, flush=True)


@contextlib.contextmanager
def _stdout_for_answers() -> Iterator[None]:
    """What libraries print goes to stderr: Ray tells of dead workers on stdout, where a script expects JSON only."""
    global _answers
    before, _answers = _answers, sys.stdout
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        _answers = before


_interrupted = threading.Event()


def interrupt_as_exception() -> None:
    """SIGTERM ends a verb the way Ctrl-C does, so that cleanup code runs; and neither is lost.

    Python drops an exception that a signal raises inside a callback or finaliser, of which Ray has many: then
    ``check_interrupted`` raises it again.
    """

    def raise_interrupt(number: int, frame: object) -> None:
        del number, frame
        _interrupted.set()
        raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, raise_interrupt)


def check_interrupted() -> None:
    """Raise the KeyboardInterrupt that was asked for, if this process still goes on after it."""
    if _interrupted.is_set():
        raise KeyboardInterrupt


def add_common(parser: argparse.ArgumentParser) -> None:
    """Options every verb has: ``--json``, ``--preset``, ``--set section.field=value``."""
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of tables and bars")
    parser.add_argument("--preset", metavar="NAME", help="configuration to start from: laptop (default), node, cluster")
    parser.add_argument(
        "--set", dest="overrides", action="append", default=[], metavar="SECTION.FIELD=VALUE",
        help="override one configuration value; may be repeated (see `plinth doctor --fields`)",
    )  # fmt: skip


def config_from(args: argparse.Namespace, home: Home) -> PlinthConfig:
    """The configuration a verb works with: a named preset, else what `plinth up` was started with, plus --set."""
    from cluster.core.config import configured, load_config  # a fifth of a second, which --help need not spend
    from cluster.core.presets import preset

    saved = home.root / "run" / "config.json"
    if args.preset is None and saved.exists():
        return configured(load_config(saved), args.overrides)
    return preset(args.preset or "laptop", args.overrides)


def run_main(work: Callable[[], int], *, as_json: bool = False) -> int:
    """Run ``work`` and return its exit code, or that of the error it raised.

    With ``as_json`` only ``print_json`` writes to stdout. A PlinthError prints its message; any other exception is a
    bug: its traceback goes to ``logs/cli-error.log``, the terminal gets the file's name. KeyboardInterrupt gives 130.
    """
    # transformers and the hub's client read it when they are imported: their bars would write over ours.
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.umask(
        0o077
    )  # what this process and those it starts write is its user's alone, the store outside PLINTH_HOME too
    try:
        with _stdout_for_answers() if as_json else contextlib.nullcontext():
            return work()
    except PlinthError as error:
        _say(error.message, error.exit_code, as_json, extras=error.extras)
        return int(error.exit_code)
    except KeyboardInterrupt:
        _say("interrupted; finished work is kept, run the same command again to go on", ExitCode.INTERRUPTED, as_json)
        return int(ExitCode.INTERRUPTED)
    except BrokenPipeError:
        return int(ExitCode.DONE)
    except Exception as error:  # noqa: BLE001 (the outermost frame of the process)
        path = Home.from_env().logs / "cli-error.log"
        path.write_text(traceback.format_exc())
        _say(f"internal error: {type(error).__name__}: {error} (traceback: {path})", ExitCode.INTERNAL, as_json)
        return int(ExitCode.INTERNAL)


def leave(code: int) -> NoReturn:
    """End the process now, without tearing down native libraries.

    Output is flushed and all clean-up is in context managers by then. Threads of native libraries (pyarrow's among
    them) can abort the process during an ordinary exit, which would turn a finished verb's exit code 0 into 134.
    """
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BrokenPipeError:
            continue
    os._exit(code)


def _say(message: str, code: ExitCode, as_json: bool, extras: dict[str, object] | None = None) -> None:
    if as_json:
        said = {"message": message, "exit_code": int(code), "kind": code.name.lower()}
        print(json.dumps({"error": {**said, **(extras or {}), **said}}, default=str))
    else:
        print(f"plinth: {printable(message)}", file=sys.stderr)
