"""plinth ask: put questions to the running service from a terminal, streamed, with numbered citations."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from typing import Any

import httpx

from cluster.cli.output import WordWrap, console, fold, print_json, printable
from cluster.cli.verbs import VERBS, Commands, add_verb, unknown
from cluster.core.entry import config_from
from cluster.core.errors import BadInputError, EnvironmentFaultError, ExitCode, PlinthError, UsageError
from cluster.core.home import Home
from cluster.core.sections.cluster import LOOPBACK
from cluster.loopback import api_key, client, get

DETAILS = """\
With a question: one answer. Without: a conversation that remembers what was said (/help shows its commands; Ctrl-C
stops an answer, exit or Ctrl-D leaves). Of a long conversation the last turns that the service accepts are sent."""


def register(commands: Commands) -> None:
    """Declare ``plinth ask`` with its question, ``--model`` and ``--collection``."""
    parser = add_verb(commands, "ask", ask, VERBS["ask"].summary, DETAILS)
    parser.add_argument("question", nargs="*", help="the question; leave it out for a conversation")
    parser.add_argument("--model", default="auto", help="auto (default) or a tier by name")
    parser.add_argument(
        "--collection", default="", metavar="NAME",
        help="which documents answer (default: the default collection, see `plinth index list`)",
    )  # fmt: skip
    parser.add_argument("--timings", action="store_true", help="print the milliseconds of every stage")


def ask(args: argparse.Namespace) -> int:
    """Print the answer as it arrives, then its citations and milliseconds, or hold a conversation; exit code 0.

    With ``--json`` what ``stream_answer`` returns.

    Raises:
        BadInputError: ``--json`` without a question.
        PlinthError: what ``stream_answer`` raises about a single question.
    """
    home = Home.from_env()
    config = config_from(args, home)
    base_url = service_url(config)
    if not args.question:
        if args.json:
            raise BadInputError("with --json give the question on the command line")
        from cluster.cli.conversation import converse

        def answer_turns(turns: list[dict[str, str]]) -> dict[str, Any]:
            return ask_and_print(base_url, turns, args.model, args.collection, args.timings)

        return converse(answer_turns, home, config.serve)
    messages = [{"role": "user", "content": " ".join(args.question)}]
    if args.json:
        print_json(stream_answer(base_url, messages, args.model, None, args.collection))
    else:
        ask_and_print(base_url, messages, args.model, args.collection, args.timings)
    return ExitCode.DONE


def service_url(config: Any) -> str:
    """Where the service of this configuration listens: scheme, host and port, without a slash at the end."""
    return f"http://{LOOPBACK}:{config.cluster.http_port}"


def ask_and_print(
    base_url: str, messages: list[dict[str, str]], model: str, collection: str = "", timings: bool = False
) -> dict[str, Any]:
    """One answer, written as it arrives, then its citations and milliseconds (``timings``: of every stage); returns
    what ``stream_answer`` does. On a terminal something moves until the first word is there."""
    write = WordWrap()
    waiting = console.status("asked; no word yet")

    def first_then_next(text: str) -> None:
        waiting.stop()
        write(text)

    try:
        with waiting:
            answer = stream_answer(base_url, messages, model, first_then_next, collection)
    except (PlinthError, KeyboardInterrupt) as error:
        if write.begun or isinstance(error, KeyboardInterrupt):
            write.end()
        raise
    write.end()
    _print_sources(answer, timings)
    return answer


def stream_answer(
    base_url: str,
    messages: list[dict[str, str]],
    model: str,
    write: Callable[[str], None] | None,
    collection: str = "",
) -> dict[str, Any]:
    """One chat call over SSE; ``write`` gets each piece of text as it arrives. Without ``collection`` the service's
    default one answers.

    Returns:
        {"text", "finish_reason", "request_id", "plinth": {...}}

    Raises:
        UsageError: the service knows no such model or collection.
        BadInputError: it refused the messages.
        EnvironmentFaultError: the service cannot be reached, answers with an error, or the stream breaks off.
    """
    body: dict[str, Any] = {"model": model, "messages": messages, "stream": True}
    if collection:
        body["plinth"] = {"collection": collection}
    answer: dict[str, Any] = {"text": "", "finish_reason": None, "plinth": {}}
    try:
        with client(60) as service, service.stream("POST", f"{base_url}/v1/chat/completions", json=body) as reply:
            answer["request_id"] = reply.headers.get("x-request-id")
            if reply.status_code != 200:
                reply.read()
                raise refusal(reply, base_url, model)
            for line in reply.iter_lines():
                if line.startswith("data: ") and line != "data: [DONE]":
                    _take(json.loads(line[6:]), answer, write)
    except httpx.TransportError as error:
        raise EnvironmentFaultError(
            f"no answer from {base_url} ({error}); `plinth status` shows what runs, `plinth up` starts it"
        ) from error
    if answer["finish_reason"] is None:
        raise EnvironmentFaultError("the answer broke off in mid-stream; see `plinth logs gateway`")
    return answer


def refusal(reply: httpx.Response, base_url: str, model: str) -> PlinthError:
    """The error of an answer that is not 200: a mistyped model or collection is a mistake of usage, a 400 one of the
    input."""
    try:
        told = reply.json()["error"]
        message, code = str(told["message"]), told.get("code")
    except (ValueError, KeyError, TypeError):
        message, code = reply.text[:200], None
    if code == "model_not_found":
        return UsageError(unknown("there is no model", model, models(base_url)))
    if code == "collection_not_found":
        return UsageError(message)
    if reply.status_code in (400, 413):
        return BadInputError(f"the service refused it: {message}", code=code)
    return EnvironmentFaultError(f"the service answered {reply.status_code}: {message}")


def models(base_url: str) -> dict[str, dict[str, Any]]:
    """Names the service answers to, each with its card's ``plinth`` part; empty where it does not say."""
    try:
        reply = get(f"{base_url}/v1/models", 5, api_key())
        return {card["id"]: card.get("plinth", {}) for card in reply.json()["data"]}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _take(event: dict[str, Any], answer: dict[str, Any], write: Callable[[str], None] | None) -> None:
    if "error" in event:
        raise EnvironmentFaultError(f"the service broke off: {event['error'].get('message')}")
    if "plinth" in event:
        answer["plinth"] = event["plinth"]
    for choice in event.get("choices", []):
        text = choice.get("delta", {}).get("content") or ""
        answer["text"] += text
        if text and write is not None:
            write(text)
        answer["finish_reason"] = choice.get("finish_reason") or answer["finish_reason"]


def print_answer(answer: dict[str, Any]) -> None:
    """Answer text, numbered citations, tier, collection and milliseconds."""
    write = WordWrap()
    write(answer["text"])
    write.end()
    _print_sources(answer)


def _print_sources(answer: dict[str, Any], all_stages: bool = False) -> None:
    extra = answer["plinth"]
    if answer.get("finish_reason") == "content_filter":
        rules = dict.fromkeys(one["rule"] for one in extra.get("verdicts", []) if one["action"] == "block")
        said = f"withheld by the safety guard ({', '.join(rules)})" if rules else "withheld by the safety guard"
        console.print(fold([(printable(said), "yellow")], first="  ", then="  "), soft_wrap=True)
    if meant := extra.get("searched_for"):
        console.print(fold([(printable(f"searched for: {meant}"), "dim")], first="  ", then="  "), soft_wrap=True)
    for number, citation in enumerate(extra.get("citations", []), start=1):
        source = citation["source"] if citation["source"] != citation["document"] else ""
        also = ", ".join(copy["document"] for copy in citation.get("also", []))
        words = [
            (f"[{number}]", "cyan"),
            (citation["document"], ""),
            (source, "dim"),
            (also and f"also in {also}", "dim"),
        ]
        parts = [(printable(word), style) for word, style in words]
        console.print(fold(parts, first="  ", then="      "), soft_wrap=True)
    shown = {k: v for k, v in extra.get("timings_ms", {}).items() if "." not in k and (all_stages or k == "total")}
    stages = " ".join(f"{stage} {value:.0f}" if all_stages else f"{value:.0f}" for stage, value in shown.items())
    who = " · ".join(filter(None, (extra.get("tier"), extra.get("collection"))))
    line = f"{who} · {stages} ms · {answer.get('request_id') or ''}"
    console.print(fold([(printable(line), "dim")], first="  ", then="  "), soft_wrap=True)
