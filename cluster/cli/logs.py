"""plinth logs: the newest log lines, for people or raw, and those that come."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cluster.cli.output import console, fold, printable
from cluster.cli.verbs import VERBS, Commands, add_verb
from cluster.core.entry import answers, check_interrupted
from cluster.core.errors import BadInputError, ExitCode
from cluster.core.home import Home
from cluster.core.telemetry import COMPONENTS

HEAD = "ray_head"
POLL_S = 0.2
LEVEL_STYLE = {"error": "red", "warning": "yellow", "info": "green"}
DETAILS = f"""\
Components: {", ".join(COMPONENTS[:6])},
{", ".join(COMPONENTS[6:])}, {HEAD}. Without one: all but {HEAD}, by time.
A line says when (UTC), level, component, event, then the event's fields. On a terminal it is
folded at words and coloured; in a pipe it stays one line. --json gives the lines as they
stand in the files, one JSON object a line.

  plinth logs -f                       follow everything; Ctrl-C ends it
  plinth logs gateway --request req_1f2e3d…   what happened to one request"""


def register(commands: Commands) -> None:
    """Declare ``plinth logs``: of which component or request, how many lines, and whether to follow."""
    parser = add_verb(commands, "logs", logs, VERBS["logs"].summary, DETAILS)
    parser.add_argument("component", nargs="?", choices=[*COMPONENTS, HEAD], metavar="COMPONENT", help="see above")
    parser.add_argument("--request", metavar="ID", help="only lines of this request (the x-request-id header)")
    parser.add_argument("-n", "--lines", type=int, default=50, help="how many lines (default 50)")
    parser.add_argument("-f", "--follow", action="store_true", help="go on with the lines that come, until Ctrl-C")


def logs(args: argparse.Namespace) -> int:
    """Print the newest lines in the order of time, with ``--follow`` those that come until Ctrl-C; exit code 0.

    Raises:
        BadInputError: the head has no log yet, and its log was asked for.
    """
    folder = Home.from_env().logs
    names = [args.component] if args.component else list(COMPONENTS)
    paths = [folder / (f"{HEAD}.log" if name == HEAD else f"{name}.jsonl") for name in names]
    if args.component == HEAD and not paths[0].exists():
        raise BadInputError(f"no such log yet: {paths[0]}")
    files = [LogFile(path) for path in paths]
    newest = [line for file in files for line in file.newest(args.lines, args.request)]
    newest.sort(key=lambda line: str(line.fields.get("ts", "")))
    for line in newest[-args.lines :] if args.lines > 0 else []:
        _show(line, args.json)
    if not newest and not args.follow and not args.json:
        about = f" for request {args.request}" if args.request else ""
        console.print(f"no log lines yet in {folder}{about}", soft_wrap=True)
    if args.follow:
        try:
            for line in _following(files, args.request):
                _show(line, args.json)
        except KeyboardInterrupt:  # how one leaves a log that has no end
            return ExitCode.DONE
    return ExitCode.DONE


class Line:
    """A log line as it stands in the file, and its fields: none of a line that is plain text (Ray's own log)."""

    def __init__(self, raw: str) -> None:
        self.raw = raw
        try:
            found = json.loads(raw)
        except ValueError:
            found = None
        self.fields: dict[str, Any] = found if isinstance(found, dict) else {}


class LogFile:
    """One file read to its end, again and again: what was rotated away meanwhile begins anew."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._offset = 0
        self._inode = 0

    def newest(self, lines: int, request: str | None) -> list[Line]:
        """The last lines; with ``request``, the last of those that carry this id, wherever they stand."""
        if self.path.exists() and request is None:
            self._offset = max(0, self.path.stat().st_size - lines * 4096)
            self._inode = self.path.stat().st_ino
        cut = self._offset > 0  # the first line may have lost its beginning
        found = self.fresh(request)
        return found[int(cut) :][-lines:]

    def fresh(self, request: str | None) -> list[Line]:
        """Whole lines that were written since the last look."""
        try:
            with open(self.path, "rb") as handle:
                state = self.path.stat()
                if state.st_ino != self._inode or state.st_size < self._offset:
                    self._inode, self._offset = state.st_ino, 0
                handle.seek(self._offset)
                data = handle.read()
        except FileNotFoundError:
            return []
        whole = data[: data.rfind(b"\n") + 1]
        self._offset += len(whole)
        lines = [Line(text) for text in whole.decode(errors="replace").splitlines()]
        if self.path.suffix == ".jsonl":
            lines = [line for line in lines if line.fields]
        return [line for line in lines if request is None or line.fields.get("request_id") == request]


def _following(files: list[LogFile], request: str | None) -> Iterator[Line]:
    while True:
        check_interrupted()
        yield from sorted(
            (line for file in files for line in file.fresh(request)), key=lambda line: str(line.fields.get("ts", ""))
        )
        time.sleep(POLL_S)


def level_of(fields: dict[str, Any]) -> str:
    """What the line says of itself, else what it tells of: an error or a 5xx, a 4xx or a refusal, anything else."""
    status = fields.get("status")
    status = status if isinstance(status, int) else 0
    event = str(fields.get("event", ""))
    if "level" in fields:
        return str(fields["level"])
    if fields.get("error") or status >= 500 or event.endswith("_failed"):
        return "error"
    return "warning" if status >= 400 or "refused" in event or "lost" in event else "info"


def readable(fields: dict[str, Any]) -> list[tuple[str, str]]:
    """A line as (word, style): time, level, component, event, fields; what would steer the terminal is escaped."""
    level = level_of(fields)
    words = [
        (str(fields.get("ts", ""))[:19].replace("T", " "), "dim"),
        (f"{level:<7}", LEVEL_STYLE.get(level, "")),
        (f"{fields.get('component', '')!s:<9}", "cyan"),
        (str(fields.get("event", "")), "bold"),
    ]
    left = {k: v for k, v in fields.items() if k not in ("ts", "component", "event", "pid", "level")}
    words += [(f"{name}={text}", "") for name, text in _flat(left)]
    return [(printable(text), style) for text, style in words if text.strip()]


def _flat(value: dict[str, Any], place: str = "") -> Iterator[tuple[str, str]]:
    for key, inner in value.items():
        if isinstance(inner, dict):
            yield from _flat(inner, f"{place}{key}.")
        elif isinstance(inner, list):
            if inner:
                yield f"{place}{key}", ",".join(map(str, inner))
        else:
            yield f"{place}{key}", inner if isinstance(inner, str) else json.dumps(inner)


def _show(line: Line, as_json: bool) -> None:
    if as_json or not line.fields:
        print(line.raw if as_json else printable(line.raw), file=answers(), flush=True)
        return
    console.print(fold(readable(line.fields)), soft_wrap=True)
