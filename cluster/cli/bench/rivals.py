"""plinth bench rivals: the running service beside other OpenAI-compatible servers, in one run."""

from __future__ import annotations

import argparse
import re
from typing import Any
from urllib.parse import urlsplit

from cluster.cli.bench.levels import levels_of
from cluster.cli.output import console, print_json, print_table
from cluster.cli.verbs import Commands, add_verb
from cluster.core.entry import config_from
from cluster.core.errors import ExitCode, UsageError
from cluster.core.home import Home

OURS = "plinth"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,31}")


def register(group: Commands) -> None:
    """Declare ``plinth bench rivals``: beside whom, which model, how many at once."""
    parser = add_verb(
        group, "rivals", rivals, "The running service beside other OpenAI-compatible servers, in one run.",
        "Every server gets the same prompts at the same concurrency, greedy, in two rounds of opposite order, so that\n"
        "what the machine does besides meets all alike. Each prompt is asked once; closed loop. Start the servers\n"
        "yourself, with the same model, threads and precision, and stop what is not measured. Your key goes to the\n"
        "service only. A ratio is ours over theirs: more than 1 of a rate is better, of a time worse.\n\n"
        "Overhead, before one backend that does nothing (a tier with engine=openai, and the backend alone):\n"
        "  plinth bench rivals --model noop --against litellm=http://127.0.0.1:4000 --against bare=http://127.0.0.1:9000\n"
        "The same without search (a named model continues a prompt; guards stay):\n"
        "  plinth bench rivals --completions --model noop --against litellm=http://127.0.0.1:4000\n"
        "One model on several engines:\n"
        "  plinth bench rivals --completions --model smollm2 --concurrency 1,32 \\\n"
        "    --against llama.cpp=http://127.0.0.1:8080 --against transformers=http://127.0.0.1:8001,PATH-OF-THE-MODEL",
    )  # fmt: skip
    parser.add_argument(
        "--against", action="append", default=[], metavar="NAME=URL[,MODEL]",
        help="another server, and what it calls the model (default: as --model); several times",
    )  # fmt: skip
    parser.add_argument("--model", default="quote", help="of this service (default quote)")
    parser.add_argument("--completions", action="store_true", help="ask /v1/completions instead of chat: no search")
    parser.add_argument("--whole", action="store_true", help="answers in one piece, not streamed")
    parser.add_argument("--concurrency", help="comma-separated (default 1,16,64)")
    parser.add_argument("--requests", type=int, help="to each server at each level (default 4 per client, 40 at least)")
    parser.add_argument("--max-tokens", type=int, default=64, help="longest answer (default 64)")


def rivals(args: argparse.Namespace) -> int:
    """Print a table by concurrency and server, with ratios; or with ``--json`` one object. Exit code 0.

    Raises:
        UsageError: a number below 1, nobody to compare with, or an ``--against`` that is no NAME=URL[,MODEL].
        EnvironmentFaultError: one of the servers does not answer.
        BadInputError: one of them refuses the question.
    """
    from cluster.cli.ask import service_url
    from cluster.cli.bench.side_by_side import CHAT, COMPLETIONS, Question, Server, measure
    from cluster.loopback import bearer

    levels = levels_of(args.concurrency) or (1, 16, 64)
    if (args.requests is not None and args.requests < 1) or args.max_tokens < 1:
        raise UsageError("--requests and --max-tokens must be 1 or more")
    others = [_server(text) for text in args.against]
    names = [name for name, _, _ in others]
    if not names or len({OURS, *names}) <= len(names):
        raise UsageError(f"--against NAME=URL names who is compared with {OURS}, each by a name of its own")
    url = service_url(config_from(args, Home.from_env()))
    servers = [Server(OURS, url, args.model, bearer()), *(Server(n, u, m or args.model) for n, u, m in others)]
    question = Question(COMPLETIONS if args.completions else CHAT, args.max_tokens, not args.whole)
    result = measure(servers, question, levels, args.requests)
    if args.json:
        print_json(result)
    else:
        _show(result)
    return ExitCode.DONE


def _server(text: str) -> tuple[str, str, str]:
    """Name, address without a path, and model (empty: as ours) of one ``--against``."""
    name, _, rest = text.partition("=")
    url, _, model = rest.partition(",")
    try:
        parts = urlsplit(url)
        whole = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        whole = whole and "@" not in parts.netloc and parts.path.strip("/") in ("", "v1")
    except ValueError:
        whole = False
    if not whole or not NAME.fullmatch(name):
        raise UsageError(f"--against {text!r}: write NAME=URL or NAME=URL,MODEL, with http://HOST:PORT as URL")
    return name, f"{parts.scheme}://{parts.netloc}", model


def _show(result: dict[str, Any]) -> None:
    machine = result["machine"]
    console.print(
        f"{machine['cpu']}, {machine['cpus']} CPUs, load {machine['load_1min']:.1f}; {result['path']}, "
        f"{'streamed' if result['stream'] else 'in one piece'}, at most {result['max_tokens']} tokens"
    )
    figures = ("p50_ms", "p95_ms", "first_p50_ms", "requests_per_s", "tokens_per_s")
    names = ("server", "requests", "failed", "P50 ms", "P95 ms", "first ms", "requests/s", "tokens/s")
    for level in result["levels"]:
        rows = []
        for name, side in level["servers"].items():
            rows.append((name, side["requests"], side["failed"], *(_number(side[figure], 1) for figure in figures)))
        rows += [
            (f"{OURS} / {name}", "", "", *(_number(ratios.get(figure), 2) for figure in figures))
            for name, ratios in level["ratios"].items()
        ]
        print_table(f"{level['concurrency']} at once", names, rows, numeric=names[1:])
        for name, side in level["servers"].items():
            if side["codes"]:
                console.print(f"{name} failed: " + ", ".join(f"{n} x {why}" for why, n in side["codes"].items()))


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
