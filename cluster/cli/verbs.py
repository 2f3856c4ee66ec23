"""How verbs are declared: every one has help that teaches, ``--json`` and ``--set``."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING

from cluster.core.entry import add_common

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]
else:
    Commands = argparse._SubParsersAction


def add_verb(
    commands: Commands, name: str, work: Callable[[argparse.Namespace], int], summary: str, details: str = ""
) -> argparse.ArgumentParser:
    """Declare one verb; ``details`` is shown by its --help."""
    parser = commands.add_parser(
        name, help=summary, description=f"{summary}\n\n{details}".strip(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    add_common(parser)
    parser.set_defaults(work=work)
    return parser


def add_group(commands: Commands, name: str, summary: str) -> Commands:
    """Declare a verb that only groups others (``data``, ``index``)."""
    parser = commands.add_parser(name, help=summary, description=summary)
    return parser.add_subparsers(dest=f"{name}_verb", metavar="VERB", required=True)
