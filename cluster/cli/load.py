"""plinth load: a trace of real requests, replayed against the running service, or clients in steps."""

from __future__ import annotations

import argparse
import asyncio
import itertools
import random
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from cluster.cli.output import Stages, console, print_facts, print_json, print_table
from cluster.cli.verbs import VERBS, Commands, add_verb, unknown
from cluster.core.entry import config_from
from cluster.core.errors import BadInputError, EnvironmentFaultError, ExitCode, UsageError
from cluster.core.home import Home

if TYPE_CHECKING:
    import httpx

    from cluster.cli.bench.replay import Outcome, Send
    from cluster.cli.bench.streamed import Reply
    from cluster.cli.bench.trace import Arrival

CHARS_A_TOKEN = 4  # of English, about
MOST_TOKENS = 4096  # asked for of one answer

DETAILS = """\
  plinth load --trace conv.csv --speed 5 --duration 60 --plot load.png
  plinth load --steps 1:30,10:120,1:120 --plot steps.png

FILE is CSV or Parquet with the columns TIMESTAMP, ContextTokens and GeneratedTokens (the Azure LLM inference traces
have them). Requests are sent when the trace says, --speed times as fast, whether those before them were answered or not
(open loop), and answers are streamed. Latencies count from when a request was due. What comes while --outstanding
requests are under way is not sent, and counted.

--steps has no trace: so many clients for so many seconds, each of which asks again when it was answered (closed loop).

Answers are as long as the trace says at most (max_tokens). The service makes prompts of questions by itself; with
--completions the model named continues plain prompts of the trace's lengths instead. Questions are the examples of the
collection asked, few and therefore quickly known: --questions FILE takes your own, one a line.

Goodput is what was answered within --slo-ms, from due to the last word. The queue is estimated: those outstanding, less
those that would be if every answer were as quick as the quickest twentieth. --plot draws it all over time."""


def register(commands: Commands) -> None:
    """Declare ``plinth load``: which trace, how fast, how much of it, against what."""
    parser = add_verb(commands, "load", load, VERBS["load"].summary, DETAILS)
    one = parser.add_mutually_exclusive_group(required=True)
    one.add_argument("--trace", metavar="FILE", type=Path, help="the requests: CSV or Parquet")
    one.add_argument("--steps", metavar="N:S,...", help="N clients for S seconds, then the next: 1:30,10:120,1:120")
    parser.add_argument("--speed", type=float, default=1.0, help="so many times as fast as the trace (default 1)")
    parser.add_argument("--duration", type=float, default=60.0, help="seconds of replay (default 60)")
    parser.add_argument("--limit", type=int, help="most requests")
    parser.add_argument("--model", default="auto", help="auto (default), auto@COLLECTION, or a tier")
    parser.add_argument("--questions", metavar="FILE", type=Path, help="questions, one a line (default: the examples)")
    parser.add_argument("--completions", action="store_true", help="plain prompts of the trace's lengths")
    parser.add_argument("--outstanding", type=int, default=256, help="most requests under way (default 256)")
    parser.add_argument("--slo-ms", type=float, default=2000.0, help="what counts as good (default 2000)")
    parser.add_argument("--plot", metavar="FILE", type=Path, help="write a PNG of the replay over time")


def load(args: argparse.Namespace) -> int:
    """Print percentiles, goodput, refusals, errors, rates, the queue and scale events; exit code 0.

    Raises:
        UsageError: an option is out of range, or the service knows no such model.
        BadInputError: the trace or the file of questions is not usable.
        EnvironmentFaultError: no service answers, or the picture cannot be written.
    """
    from cluster.cli.ask import service_url
    from cluster.cli.bench.replay import replay
    from cluster.cli.bench.steps import by_step, stepped, steps_of
    from cluster.cli.bench.trace import compressed, read_trace

    _check(args)
    steps = steps_of(args.steps) if args.steps else []
    arrivals = [] if steps else compressed(read_trace(args.trace), args.speed, args.duration, args.limit)
    home = Home.from_env()
    config = config_from(args, home)
    base_url = service_url(config)
    _require_model(base_url, args.model)
    questions = read_questions(args.questions) if args.questions else examples(base_url, args.model)
    make = question_of if steps else completion_of if args.completions else chat_of
    send = sender(make, args.model, questions, config.serve.max_prompt_chars)
    stages = Stages(show=not args.json)
    with stages.run("ask in steps" if steps else "replay the trace"):
        stages.stage("requests", None if steps else len(arrivals), "requests")
        if steps:
            outcomes, found = observed(stepped(base_url, steps, send, stages.advance), args.slo_ms, home)
            told: dict[str, Any] = {"steps": by_step(outcomes, steps)}
        else:
            _, found = observed(replay(base_url, arrivals, send, args.outstanding, stages.advance), args.slo_ms, home)
            asked = {"prompt": sum(one.context_tokens for one in arrivals) if args.completions else None,
                     "answer": sum(one.generated_tokens for one in arrivals)}  # fmt: skip
            told = {"trace": str(args.trace), "speed": args.speed, "tokens_asked": asked}
    result = {
        **told, "model": args.model, "distinct_questions": len(questions), **found,
        "plot": _plot(found, args) if args.plot else None,
    }  # fmt: skip
    if args.json:
        print_json(result)
    else:
        _show(result)
    return ExitCode.DONE


def _check(args: argparse.Namespace) -> None:
    for name in ("speed", "duration", "slo_ms"):
        if not 0 < getattr(args, name) < float("inf"):
            raise UsageError(f"--{name.replace('_', '-')} must be more than 0")
    for name in ("limit", "outstanding"):
        if getattr(args, name) is not None and getattr(args, name) < 1:
            raise UsageError(f"--{name} must be 1 or more")
    if args.completions and args.steps:
        raise UsageError("--completions is for a trace, which says how long prompts are")
    if args.completions and args.model.partition("@")[0] == "auto":
        raise UsageError("--completions needs a language model: name its tier with --model")


def _require_model(base_url: str, model: str) -> None:
    from cluster.cli.ask import models
    from cluster.cli.service import answers

    if not answers(base_url, "/healthz"):
        raise EnvironmentFaultError(f"no service answers at {base_url}: start it with `plinth up`")
    known = models(base_url)
    if known and model not in known:
        raise UsageError(unknown("there is no model", model, known))


def examples(base_url: str, model: str) -> list[str]:
    """Questions that the collection asked can be asked.

    Raises:
        EnvironmentFaultError: the service offers none, as it has no index.
    """
    from cluster.loopback import api_key, get

    collection = model.partition("@")[2]
    path = f"/v1/plinth/examples/{quote(collection, safe='')}" if collection else "/v1/plinth/examples"
    reply = get(f"{base_url}{path}", 30, api_key())
    found = [str(one["question"]) for one in reply.json().get("data", ())] if reply.status == 200 else []
    if not found:
        raise EnvironmentFaultError("the service has no example questions: build an index, or bring --questions FILE")
    return found


def read_questions(path: Path) -> list[str]:
    """The lines of a file that are not empty.

    Raises:
        BadInputError: it cannot be read, or there is none.
    """
    try:
        found = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise BadInputError(f"{path} cannot be read: {error}") from None
    if not found:
        raise BadInputError(f"{path} holds no question: one a line")
    return found


def question_of(arrival: Arrival, questions: Sequence[str], most_chars: int) -> tuple[str, dict[str, Any]]:
    """A chat call whose answer may be as long as it likes: path and body."""
    del arrival, most_chars
    return "/v1/chat/completions", {"messages": [{"role": "user", "content": questions[0]}], "store": False}


def chat_of(arrival: Arrival, questions: Sequence[str], most_chars: int) -> tuple[str, dict[str, Any]]:
    """A chat call: path and body. Its question is the first; the service makes the prompt by itself."""
    path, body = question_of(arrival, questions, most_chars)
    return path, {**body, **_limit(arrival)}


def completion_of(arrival: Arrival, questions: Sequence[str], most_chars: int) -> tuple[str, dict[str, Any]]:
    """A plain completion: path and body. Its prompt is as long as the trace says, about, made of the questions."""
    chars = min(most_chars, max(1, CHARS_A_TOKEN * arrival.context_tokens))
    text, more = questions[0], itertools.cycle([*questions[1:], questions[0]])
    while len(text) < chars:
        text += f" {next(more)}"
    return "/v1/completions", {"prompt": text[:chars], **_limit(arrival)}


def _limit(arrival: Arrival) -> dict[str, int]:
    return {"max_tokens": min(MOST_TOKENS, max(1, arrival.generated_tokens))}


def sender(make: Any, model: str, questions: Sequence[str], most_chars: int) -> Send:
    """What sends one arrival: ``make`` is ``chat_of`` or ``completion_of``; questions take turns in a seeded order."""
    from cluster.cli.bench.streamed import streamed

    order = list(questions)
    random.Random(0).shuffle(order)  # noqa: S311 (not cryptography)
    turn = itertools.count()

    async def send(client: httpx.AsyncClient, arrival: Arrival) -> Reply:
        first = next(turn) % len(order)
        path, body = make(arrival, order[first:] + order[:first], most_chars)
        return await streamed(client, path, {"model": model, **body})

    return send


def observed(
    work: Coroutine[Any, Any, list[Outcome]], slo_ms: float, home: Home
) -> tuple[list[Outcome], dict[str, Any]]:
    """What became of the requests that ``work`` sends, and their ``figures`` with the machine, the date and
    ``scale_events``: those of the time, ``at_s`` in it."""
    from cluster.cli.bench.load import machine
    from cluster.cli.bench.replay import figures
    from cluster.core.storage import utc_now
    from cluster.deployments import scale_events

    began, found_on = utc_now(), machine()
    outcomes = asyncio.run(work)
    events = scale_events(home.root / "logs" / "scaling.jsonl", began)
    placed = [_placed(one, began) for one in events]
    return outcomes, {"date": began, "machine": found_on, **figures(outcomes, slo_ms), "scale_events": placed}


def _placed(event: dict[str, Any], since: str) -> dict[str, Any]:
    from datetime import datetime

    after = datetime.fromisoformat(event["ts"]) - datetime.fromisoformat(since)
    return {"at_s": after.total_seconds(), **{key: event[key] for key in ("deployment", "before", "after", "why")}}


def _plot(found: dict[str, Any], args: argparse.Namespace) -> str:
    from cluster.cli.bench.replay_plot import replay_plot

    path: Path = args.plot.expanduser().absolute()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        what = f"{args.steps} (clients:s)" if args.steps else f"{args.trace.name}, {args.speed:g} times as fast"
        path.write_bytes(replay_plot(found, f"{what}, {args.model}"))
    except OSError as error:
        raise EnvironmentFaultError(f"cannot write {path}: {error.strerror}", path=str(path)) from error
    return str(path)


def _show(result: dict[str, Any]) -> None:
    machine = result["machine"]
    console.print(f"{machine['cpu']}, {machine['cpus']} CPUs, load {machine['load_1min']:.1f} before")
    tokens, asked = result["tokens"], result.get("tokens_asked")
    rows = [
        (name, *(f"{found[q]:.0f}" for q in ("p50", "p95", "p99")))
        for name, found in (("first text", result["first_ms"]), ("whole answer", result["whole_ms"]))
        if found
    ]
    print_table("Milliseconds from when a request was due", ("", "P50", "P95", "P99"), rows, ("P50", "P95", "P99"))
    codes = ", ".join(f"{code} {count}" for code, count in result["codes"].items())
    late, queue = result["late_ms"], result["queue"]
    print_facts([
        ("requests", f"{result['requests']} in {result['seconds']:.1f} s: {result['answered']} answered, "
                     f"{result['refused']} refused, {result['failed']} failed, {result['not_sent']} not sent"),
        ("why not", codes or "-"),
        ("rate", f"{result['asked_per_s']:.2f} a second asked, {result['answered_per_s']:.2f} answered"),
        (f"within {result['slo_ms']:g} ms", f"{result['good']} ({result['goodput_share']:.0%}), "
                                            f"{result['goodput_per_s']:.2f} a second"),
        ("outstanding", f"{queue['outstanding_mean']:.1f} on average, {queue['outstanding_most']} at most; "
                        f"of them waiting about {queue['waiting_mean']:.1f}"),
        ("sent late", f"{late['p95']:.0f} ms (P95), {late['most']:.0f} at most" if late else "-"),
        ("questions", f"{result['distinct_questions']} distinct"),
        ("tokens", (f"at most {asked['answer']} asked of answers, " if asked else "") + f"{tokens['answer']} written; "
                   f"prompts {tokens['prompt']}" + (f" of {asked['prompt']}" if asked and asked["prompt"] else "")),
        ("replicas", "; ".join(f"{e['at_s']:.0f} s: {e['deployment']} {e['before']} to {e['after']}, {e['why']}"
                               for e in result["scale_events"]) or "no change"),
    ])  # fmt: skip
    if steps := result.get("steps"):
        columns = ("clients", "answered", "refused", "failed", "P50", "P95", "P95, first half", "second half")
        print_table("Milliseconds of whole answers by step", columns, [_step_row(step) for step in steps], columns)
    if result["plot"]:
        console.print(f"timeline: {result['plot']}", soft_wrap=True)


def _step_row(step: dict[str, Any]) -> tuple[str, ...]:
    counts = [str(step[name]) for name in ("clients", "answered", "refused", "failed")]
    times = [step["p50_ms"], step["p95_ms"], *(half["p95_ms"] for half in step["halves"])]
    return (*counts, *("-" if ms is None else f"{ms:.0f}" for ms in times))
