"""How verbs are declared: every one has help that teaches, ``--json`` and ``--set``; what is mistyped is guessed."""

from __future__ import annotations

import argparse
import importlib
import re
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from cluster.core.entry import add_common, answers
from cluster.core.errors import UsageError

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[Any]
else:
    Commands = argparse._SubParsersAction


class Verb(NamedTuple):
    """A first word of the command line: the module whose ``register`` declares it, its line in ``plinth --help``."""

    module: str
    summary: str


# In the order of `plinth --help`, which reads this table and imports none of the modules.
VERBS: dict[str, Verb] = {
    "quickstart": Verb("quickstart", "Start everything, index documents, answer questions, leave it running."),
    "up": Verb("lifecycle", "Start Ray and the service, and leave them running."),
    "down": Verb("lifecycle", "Stop what `plinth up` or `plinth quickstart` started, nothing else."),
    "status": Verb("lifecycle", "Show what runs, which versions serve, where state lives, disk use."),
    "doctor": Verb("lifecycle", "Check ports, memory, disk, Python, packages and other Rays."),
    "env": Verb("lifecycle", "Print what another shell needs to use the running cluster."),
    "supervise": Verb("supervise", "Keep up what `plinth up` started: one process watches, `plinth up` starts it."),
    "logs": Verb("logs", "Show the newest log lines, and follow them."),
    "ask": Verb("ask", "Ask the running service; answers stream and cite their sources."),
    "open": Verb("keys", "Sign a browser in to the page, by a link that works once."),
    "keys": Verb("keys", "Who may use the service: make, list, rotate and revoke API keys."),
    "policies": Verb("policies", "Which guard may do what, for whom: show the policies in force, check a file."),
    "feedback": Verb("feedback", "What people say of answers: send it, look at it, make a dataset of it."),
    "review": Verb("review", "What guards found and people decide about, and the heads that learnt from it."),
    "gaps": Verb("gaps", "What was asked and the documents did not answer, and who should answer it."),
    "data": Verb("data.group", "Prepare corpora and read their reports."),
    "lineage": Verb(
        "lineage", "Show what a version was made of, back to raw files with hashes, or where a document went."
    ),
    "index": Verb("index.group", "Build and manage the search index."),
    "adapt": Verb("adapt", "Let search learn your documents, offline, and keep it only where it surely gains."),
    "train": Verb("train", "Train a model of your own."),
    "router": Verb("router", "Which questions the larger tier gets: what the learned router costs and is worth."),
    "models": Verb("models", "The model registry: versions, what serves, what the gate said."),
    "edge": Verb("edge", "A model as a folder that answers alone: no cluster, no network."),
    "runs": Verb("runs", "Training runs: list, look at, compare, cancel."),
    "eval": Verb("evaluation.group", "Measure the quality of answers."),
    "audit": Verb("audit", "The audit log: check, read, erase. What a model gives away of its training data."),
    "bench": Verb("bench.group", "Measure the running service, and training."),
    "load": Verb("load", "Replay a trace of real requests against the running service."),
    "metrics": Verb("metrics", "What Prometheus and Grafana need to watch the service: rules, alerts, a dashboard."),
    "gc": Verb("gc", "Remove versions that nothing needs any more."),
    "completion": Verb("shell", "Print a script that completes verbs and options in bash or zsh."),
}


class Help(argparse.HelpFormatter):
    """Folds a description at words to the terminal's width: paragraphs are filled, indented lines keep their indent."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        import textwrap

        return "\n".join(
            textwrap.fill(
                line, width, initial_indent=indent, subsequent_indent=indent + _hanging(line, width),
                break_long_words=False, break_on_hyphens=False,
            )
            for line in _paragraphs(text)
        )  # fmt: skip

    def add_argument(self, action: argparse.Action) -> None:
        """As argparse does, with room for verbs to be listed on one line with their summary."""
        super().add_argument(action)
        if isinstance(action, argparse._SubParsersAction):
            self._action_max_length += 2  # argparse forgets that verbs stand indented: the longest would get two lines


class Parser(argparse.ArgumentParser):
    """Raises UsageError instead of printing and leaving, so that ``--json`` and the exit code hold for it too."""

    def error(self, message: str) -> NoReturn:
        """Refuse the command line, with a hint at the verb's own help.

        Raises:
            UsageError: always.
        """
        raise UsageError(f"{message} (see `{self.prog} --help`)")

    def print_help(self, file: Any = None) -> None:
        """Write the help to ``file``, by default to where answers go."""
        super().print_help(file or answers())  # stdout also beside --json, which keeps it for answers

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is None or value in action.choices:
            return
        if isinstance(action, argparse._SubParsersAction):
            raise argparse.ArgumentError(None, unknown(f"`{self.prog}` has no verb", str(value), action.choices))
        raise argparse.ArgumentError(action, unknown("no", str(value), map(str, action.choices)))

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse does; words left over are refused by the verb that was typed, which knows its options.

        Raises:
            UsageError: a word was not understood.
        """
        found, extra = self.parse_known_args(args, namespace)
        if extra:
            verb: argparse.ArgumentParser = getattr(found, "parser", self)
            verb.error(unknown("does not understand", extra[0], verb._option_string_actions))
        return found


def unknown(what: str, given: str, known: Iterable[str]) -> str:
    """``no verb 'stauts'; did you mean status?``: near names where there are any, else all there are."""
    import difflib

    names = list(known)
    near = difflib.get_close_matches(given, names, n=2, cutoff=0.7)
    if near:
        return f"{what} {given!r}; did you mean {' or '.join(near)}?"
    return f"{what} {given!r}; there are {', '.join(names)}" if names else f"{what} {given!r}; there are none yet"


def register_verbs(commands: Commands, wanted: Iterable[str]) -> None:
    """Declare the verbs of the table: those of ``wanted`` whole, the others by name and summary only."""
    modules = {VERBS[name].module for name in wanted if name in VERBS}
    done: set[str] = set()
    for name, verb in VERBS.items():
        if verb.module not in modules:
            commands.add_parser(name, help=_plain(verb.summary), add_help=False)
        elif verb.module not in done:
            done.add(verb.module)
            importlib.import_module(f"cluster.cli.{verb.module}").register(commands)


def add_verb(
    commands: Commands, name: str, work: Callable[[argparse.Namespace], int], summary: str, details: str = ""
) -> argparse.ArgumentParser:
    """Declare one verb; ``details`` is shown by its --help. A first word of the command line stands in VERBS too."""
    parser = commands.add_parser(
        name, help=_plain(summary), description=f"{summary}\n\n{details}".strip(),
        formatter_class=Help,
    )  # fmt: skip
    add_common(parser)
    parser.set_defaults(work=work, parser=parser)
    return parser


def add_group(commands: Commands, name: str, summary: str) -> Commands:
    """Declare a verb that only groups others (``data``, ``index``)."""
    parser = commands.add_parser(name, help=_plain(summary), description=summary, formatter_class=Help)
    return parser.add_subparsers(dest=f"{name}_verb", title="verbs", metavar="VERB", required=True)


def _plain(summary: str) -> str:
    """argparse takes a % in ``help`` (not in ``description``) for a format."""
    return summary.replace("%", "%%")


def _paragraphs(text: str) -> list[str]:
    """Lines joined while they are plain text; empty and indented ones stand for themselves."""
    found: list[str] = []
    for line in text.splitlines():
        joins = found and found[-1].strip() and line.strip() and not found[-1].startswith(" ") and line[0] != " "
        if joins:
            found[-1] += f" {line}"
        else:
            found.append(line)
    return found


def _hanging(line: str, width: int) -> str:
    """Where the second line of a folded one starts: under the explanation of ``  command    explanation``."""
    columns = re.match(r"( +)(\S.*?\s{2,})?(?=\S)", line)
    if columns is None:
        return ""
    return " " * (columns.end() if columns.end() <= width - 20 else len(columns[1]) + 4)
