"""plinth up, down, status, doctor, env, logs: the running service and this machine."""

from __future__ import annotations

import argparse
import json
import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cluster.cli.jobs import jobs_now, print_jobs
from cluster.cli.output import STATE_STYLE, Stages, console, human_bytes, print_json, print_table
from cluster.cli.verbs import Commands, add_verb
from cluster.core.entry import config_from
from cluster.core.errors import BadInputError, ExitCode
from cluster.core.home import Home
from cluster.core.telemetry import COMPONENTS

if TYPE_CHECKING:
    from cluster.core.config import PlinthConfig


def register(commands: Commands) -> None:
    add_verb(commands, "up", up, "Start Ray and the service, and leave them running.",
             "Loopback only, token authentication on. Safe to repeat: what runs already is left alone.")  # fmt: skip
    add_verb(commands, "down", down, "Stop what `plinth up` or `plinth quickstart` started, nothing else.",
             "Artefacts, logs and configuration stay.")  # fmt: skip
    add_verb(commands, "status", status, "Show what runs, which versions serve, where state lives, disk use.")
    parser = add_verb(commands, "doctor", doctor, "Check ports, memory, disk, Python, packages and other Rays.",
                      "Says the remedy of what it finds. Exits 5 when something would stop `plinth up`.")  # fmt: skip
    parser.add_argument("--fields", action="store_true", help="list every configuration field with its meaning instead")
    parser = add_verb(commands, "env", env, "Print what another shell needs to use the running cluster.",
                      'Use it as: eval "$(plinth env)"; then `ray job submit` and OpenAI clients work.')  # fmt: skip
    parser.add_argument("--node", action="store_true", help="make this machine ready to be a node of ray-cluster.yaml, "
                        "and print what `ray start` needs there")  # fmt: skip
    parser = add_verb(commands, "logs", logs, "Show the newest log lines of a component.",
                      f"Components: {', '.join(COMPONENTS)}, ray_head. Without one: all of them, by time.")  # fmt: skip
    parser.add_argument("component", nargs="?", choices=[*COMPONENTS, "ray_head"], metavar="COMPONENT")
    parser.add_argument("--request", metavar="ID", help="only lines of this request (the x-request-id header)")
    parser.add_argument("-n", "--lines", type=int, default=50, help="how many lines (default 50)")


def up(args: argparse.Namespace) -> int:
    from cluster.cli.service import bring_up

    home = Home.from_env()
    config = config_from(args, home)
    stages = Stages(show=not args.json)
    instance = bring_up(config, home, stages)
    if args.json:
        print_json({"base_url": instance.base_url, "dashboard": instance.dashboard_url, "seconds": stages.seconds})
    else:
        console.print(f"Serving at [bold]{instance.base_url}[/bold]; stop with [bold]plinth down[/bold]")
    return ExitCode.DONE


def down(args: argparse.Namespace) -> int:
    from cluster import local_head

    ended = local_head.stop(Home.from_env())
    if args.json:
        print_json({"processes_ended": ended})
    else:
        console.print(f"Stopped {ended} processes." if ended else "Nothing of Plinth was running.")
    return ExitCode.DONE


def status(args: argparse.Namespace) -> int:
    from cluster.cli.service import describe

    found = describe(config_from(args, Home.from_env()), Home.from_env())
    found["jobs"] = jobs_now(Home.from_env())
    if args.json:
        print_json(found)
        return ExitCode.DONE
    rows: list[tuple[str, Any]] = [("service", found["service"])]
    rows += [
        (key, found[key]) for key in ("base_url", "dashboard", "started_at", "processes", "memory") if key in found
    ]
    index = found["index"]
    rows.append(("index", f"{index['version']} of {index['inputs']}" if index else "none yet: run `plinth quickstart`"))
    if index:
        rows.append(("index as of", index["created_at"]))
        rows.append(("chunks / documents", f"{index['counts'].get('chunks')} / {index['counts'].get('documents')}"))
    rows += [(f"model {name}", version) for name, version in found.get("models", {}).items()]
    rows += [
        (f"registered {name}", ", ".join(f"{alias} {version}" for alias, version in aliases.items()))
        for name, aliases in found["registry"].items()
    ]
    rows += [("state (PLINTH_HOME)", found["home"]), ("artefacts (PLINTH_STORE)", found["store"])]
    rows.append(("disk used", ", ".join(f"{name} {human_bytes(size)}" for name, size in found["disk"].items())))
    print_table("", ("", ""), rows)
    print_jobs(found["jobs"])
    return ExitCode.DONE


def doctor(args: argparse.Namespace) -> int:
    from cluster.doctor import examine

    home = Home.from_env()
    config = config_from(args, home)
    if args.fields:
        return _fields(args, config)
    checks = examine(config, home)
    if args.json:
        print_json([vars(check) for check in checks])
    else:
        rows = [(f"[{STATE_STYLE[c.state]}]{c.state}[/]", c.name, c.found, c.remedy) for c in checks]
        print_table("", ("", "check", "found", "remedy"), rows)
    return ExitCode.ENVIRONMENT if any(check.state == "bad" for check in checks) else ExitCode.DONE


def _fields(args: argparse.Namespace, config: PlinthConfig) -> int:
    from cluster.core.config import settings

    rows = list(settings(config))
    if args.json:
        print_json([{"field": path, "value": value, "meaning": meaning} for path, value, meaning in rows])
    else:
        shown = [(path, json.dumps(value), meaning) for path, value, meaning in rows]
        print_table("Configuration (--set FIELD=VALUE)", ("field", "value", "meaning"), shown)
    return ExitCode.DONE


def env(args: argparse.Namespace) -> int:
    home = Home.from_env()
    if args.node:
        from cluster.node import prepare

        variables = prepare(config_from(args, home), home, os.environ)
    else:
        from cluster.cli.service import client_environment

        variables = client_environment(home)
    if args.json:
        print_json(variables)
    else:
        for name, value in variables.items():
            print(f"export {name}={shlex.quote(value)}")
    return ExitCode.DONE


def logs(args: argparse.Namespace) -> int:
    folder = Home.from_env().logs
    if args.component == "ray_head":
        path = folder / "ray_head.log"
        if not path.exists():
            raise BadInputError(f"no such log yet: {path}")
        print("\n".join(path.read_text(errors="replace").splitlines()[-args.lines :]))
        return ExitCode.DONE
    wanted = [args.component] if args.component else list(COMPONENTS)
    found = [line for name in wanted for line in _tail(folder / f"{name}.jsonl", args.lines, args.request)]
    found.sort(key=lambda line: line.get("ts", ""))
    if args.json:
        print_json(found[-args.lines :])
        return ExitCode.DONE
    for line in found[-args.lines :]:
        rest = {k: v for k, v in line.items() if k not in ("ts", "component", "event", "pid")}
        print(f"{line.get('ts', '')} {line.get('component', ''):<9} {line.get('event', '')} {json.dumps(rest)}")
    if not found:
        console.print(f"no log lines yet in {folder}" + (f" for request {args.request}" if args.request else ""))
    return ExitCode.DONE


def _tail(path: Path, lines: int, request: str | None) -> list[dict[str, Any]]:
    """The newest lines of a JSON-lines file; with ``request``, all lines that carry this id."""
    if not path.exists():
        return []
    with open(path, "rb") as handle:
        if request is None:
            handle.seek(max(0, path.stat().st_size - lines * 4096))
        raw = handle.read().splitlines()
    parsed = []
    for text in raw:
        try:
            line = json.loads(text)
        except ValueError:  # the first line may be cut by the seek
            continue
        if request is None or line.get("request_id") == request:
            parsed.append(line)
    return parsed[-lines:]
