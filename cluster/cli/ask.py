"""plinth ask: put questions to the running service from a terminal, streamed, with numbered citations."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from typing import Any

import httpx

from cluster.cli.output import console, print_json
from cluster.cli.verbs import VERBS, Commands, add_verb
from cluster.core.entry import config_from
from cluster.core.errors import BadInputError, EnvironmentFaultError, ExitCode
from cluster.core.home import Home


def register(commands: Commands) -> None:
    parser = add_verb(commands, "ask", ask, VERBS["ask"].summary,
                      "With a question: one answer. Without: a conversation (follow-ups remember what was asked; an\n"
                      "empty line or Ctrl-D ends it).")  # fmt: skip
    parser.add_argument("question", nargs="*", help="the question; leave it out for a conversation")
    parser.add_argument("--model", default="auto", help="auto (default) or a tier by name")


def ask(args: argparse.Namespace) -> int:
    base_url = service_url(config_from(args, Home.from_env()))
    if args.question:
        answer = stream_answer(base_url, [_user(" ".join(args.question))], args.model, None if args.json else _write)
        print_json(answer) if args.json else print_answer(answer, streamed=True)
        return ExitCode.DONE
    if args.json:
        raise BadInputError("with --json give the question on the command line")
    return _converse(base_url, args.model)


def service_url(config: Any) -> str:
    return f"http://{config.cluster.host}:{config.cluster.http_port}"


def _converse(base_url: str, model: str) -> int:
    messages: list[dict[str, str]] = []
    while True:
        try:
            question = console.input("[bold]you>[/bold] ").strip()
        except EOFError:
            question = ""
        if not question:
            return ExitCode.DONE
        messages.append(_user(question))
        answer = stream_answer(base_url, messages, model, _write)
        print_answer(answer, streamed=True)
        messages.append({"role": "assistant", "content": answer["text"]})


def stream_answer(
    base_url: str, messages: list[dict[str, str]], model: str, write: Callable[[str], None] | None
) -> dict[str, Any]:
    """One chat call over SSE; ``write`` gets each piece of text as it arrives.

    Returns:
        {"text", "finish_reason", "request_id", "plinth": {...}}

    Raises:
        EnvironmentFaultError: the service cannot be reached, answers with an error, or the stream breaks off.
    """
    body = {"model": model, "messages": messages, "stream": True}
    answer: dict[str, Any] = {"text": "", "finish_reason": None, "plinth": {}}
    try:
        with httpx.stream("POST", f"{base_url}/v1/chat/completions", json=body, timeout=60, trust_env=False) as reply:
            answer["request_id"] = reply.headers.get("x-request-id")
            if reply.status_code != 200:
                reply.read()
                raise EnvironmentFaultError(f"the service answered {reply.status_code}: {_message(reply)}")
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


def print_answer(answer: dict[str, Any], streamed: bool = False) -> None:
    """Answer text (unless it was streamed already), numbered citations, tier and milliseconds per stage."""
    if streamed:
        print()
    else:
        console.print(answer["text"], markup=False)
    extra = answer["plinth"]
    for number, citation in enumerate(extra.get("citations", []), start=1):
        console.print(
            f"  [cyan]\\[{number}][/cyan] {_plain(citation['document'])} [dim]{_plain(citation['source'])}[/dim]"
        )
    timings = extra.get("timings_ms", {})
    stages = " ".join(f"{stage} {value:.0f}" for stage, value in timings.items() if "." not in stage)
    console.print(f"  [dim]{extra.get('tier', '')} · {stages} ms · {answer.get('request_id') or ''}[/dim]")


def _plain(text: str) -> str:
    from rich.markup import escape

    return escape(text)


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def _user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def _message(reply: httpx.Response) -> str:
    try:
        return str(reply.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return reply.text[:200]
