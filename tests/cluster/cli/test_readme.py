"""The README's commands are ones that the command line understands."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

from cluster.cli.main import build_parser

README = Path(__file__).resolve().parents[3] / "README.md"
_LINE, _PLACE = re.compile(r"^    (\S.*)$", re.MULTILINE), re.compile(r"\w+(\|\w+)+")


def commands(text: str) -> Iterator[str]:
    """Every `plinth` command of the indented lines, each way that ``|`` leaves open for itself.

    ``a b | plinth c`` are two commands, ``keys list | revoke bob`` two of a group, ``a b|c`` two words for one place.
    """
    for line in _LINE.findall(text.replace("\\\n", " ")):
        for command in re.split(r"; | && ", re.split(r"\s+# | > ", line)[0]):
            first, *others = command.removeprefix(".venv/bin/").strip().split(" | ")
            words = first.split()
            if words[0] != "plinth" or words[1] == "help":
                continue
            group = " ".join(words[: 2 if len(words) > 2 else 1])
            for one in (first, *(other if other.startswith("plinth ") else f"{group} {other}" for other in others)):
                place = _PLACE.search(one)
                yield from [one.replace(place[0], word) for word in place[0].split("|")] if place else [one]


def test_each_way_is_one_command() -> None:
    text = "    plinth keys list | revoke bob   # no command\n    plinth up \\\n --set a.b=1; plinth down\nplinth x\n"
    found = ["plinth keys list", "plinth keys revoke bob", "plinth up --set a.b=1", "plinth down"]
    assert [" ".join(one.split()) for one in commands(text)] == found
    assert list(commands("    plinth status | plinth open\n    plinth a b|c")) == [
        "plinth status", "plinth open", "plinth a b", "plinth a c",
    ]  # fmt: skip


def test_each_is_understood() -> None:
    found, parser = list(commands(README.read_text(encoding="utf-8"))), build_parser()
    assert len(found) > 80
    for command in found:
        parser.parse_args(shlex.split(command)[1:])  # raises what it does not understand
