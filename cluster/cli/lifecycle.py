"""plinth up, down, status, doctor, env: the running service and this machine."""

from __future__ import annotations

import argparse
import json
import os
import shlex
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.text import Text

from cluster.cli.jobs import jobs_now, print_jobs
from cluster.cli.output import STATE_STYLE, Stages, console, human_bytes, print_facts, print_json, print_table
from cluster.cli.verbs import VERBS, Commands, add_verb
from cluster.core.entry import config_from
from cluster.core.errors import ExitCode
from cluster.core.home import Home

STATUS_DETAILS = """\
Each part is asked itself: what is shown as up has answered just now. A tier that does not answer says why. Replicas
are shown by deployment, with how often the load changed their number. Exits 5 when something that was started does not
answer, 0 when all does or nothing was started."""
ENV_DETAILS = """\
  eval "$(plinth env)"

Then `ray status`, `ray list actors`, `serve status`, `ray job submit`, and OpenAI clients work in that shell."""

TIER_STYLE = {"serves": "green", "waits": "dim", "off": "yellow", "down": "red"}

if TYPE_CHECKING:
    from cluster.core.config import PlinthConfig


def register(commands: Commands) -> None:
    """Declare ``plinth up``, ``down``, ``status``, ``doctor`` and ``env``."""

    def verb(name: str, work: Callable[[argparse.Namespace], int], details: str = "") -> argparse.ArgumentParser:
        return add_verb(commands, name, work, VERBS[name].summary, details)

    verb("up", up, "Loopback only, token authentication on. Safe to repeat: what runs already is left alone.")
    verb("down", down, "Artefacts, logs and configuration stay.")
    verb("status", status, STATUS_DETAILS)
    parser = verb("doctor", doctor, "Says the remedy of what it finds. Exits 5 when something would stop `plinth up`.")
    parser.add_argument("--fields", action="store_true", help="list every configuration field with its meaning instead")
    parser = verb("env", env, ENV_DETAILS)
    parser.add_argument("--node", action="store_true", help="make this machine ready to be a node of ray-cluster.yaml, "
                        "and print what `ray start` needs there")  # fmt: skip


def up(args: argparse.Namespace) -> int:
    """Print where the service and Ray's dashboard are once both answer; exit code 0.

    Raises:
        UsageError: the configuration is for several machines.
        EnvironmentFaultError: the head or the service does not come up, or what runs was started differently.
    """
    from cluster.cli.service import bring_up

    home = Home.from_env()
    config = config_from(args, home)
    stages = Stages(show=not args.json)
    instance = bring_up(config, home, stages)
    if args.json:
        print_json({"base_url": instance.base_url, "dashboard": instance.dashboard_url, "seconds": stages.seconds})
    else:
        console.print(f"Serving at [bold]{instance.base_url}[/bold]; stop with [bold]plinth down[/bold]")
        console.print(f"Ray's dashboard {escape(instance.login(home))}", soft_wrap=True)
    return ExitCode.DONE


def down(args: argparse.Namespace) -> int:
    """Print how many processes were ended; exit code 0, also where nothing ran.

    Raises:
        EnvironmentFaultError: some would not end.
    """
    from cluster import local_head
    from cluster.supervision import stop_watching

    stop_watching(Home.from_env())
    ended = local_head.stop(Home.from_env())
    if args.json:
        print_json({"processes_ended": ended})
    else:
        console.print(f"Stopped {ended} processes." if ended else "Nothing of Plinth was running.")
    return ExitCode.DONE


def status(args: argparse.Namespace) -> int:
    """Print what runs, what serves, the jobs and disk use; exit code 5 where a service does not answer, else 0."""
    from cluster.cli.service import describe

    found = describe(config_from(args, Home.from_env()), Home.from_env())
    found["jobs"] = jobs_now(Home.from_env())
    if args.json:
        print_json(found)
    else:
        _print_status(found)
    return ExitCode.ENVIRONMENT if found["service"] in ("starting", "down") else ExitCode.DONE


def _print_status(found: dict[str, Any]) -> None:
    if "components" in found:
        missing = Text("not yet", "yellow") if found["service"] == "starting" else Text("down", "red")
        rows = [
            (c["component"], Text("up", "green") if c["up"] else missing, c["found"], c["remedy"])
            for c in found["components"]
        ]
        print_table("What answers", ("part", "", "", "what to do"), rows)
    if found.get("deployments"):
        numeric = ("running", "wanted", "more", "fewer")
        columns = ("deployment", *numeric[:2], "min to max", *numeric[2:], "last change")
        print_table("Replicas", columns, map(_replicas, found["deployments"]), numeric)
    if found.get("tiers"):
        tiers = [
            (t["name"], t["runs"], t["version"], Text(t["state"], TIER_STYLE[t["state"]]), t["why"])
            for t in found["tiers"]
        ]
        print_table("Tiers", ("tier", "runs", "version", "state", "why"), tiers)
    facts: list[tuple[str, Any]] = [("service", found["service"])]
    facts += [(key, found[key]) for key in ("base_url", "started_at", "processes", "memory") if key in found]
    if watch := found.get("supervisor"):
        facts.append(("kept up", _kept_up(watch)))
    if "login" in found:
        facts.append(("dashboard", found["login"]))
    facts += [(f"model {name}", version) for name, version in found.get("models", {}).items()]
    if index := found["index"]:
        counts = index["counts"]
        facts.append(("index", f"{index['name']}@{index['version']} of {', '.join(index['inputs'].values())}"))
        facts.append(("index as of", index["created_at"]))
        if counts.get("adapted"):
            facts.append(("index adapted", index["inputs"].get("adaptation", "yes")))
        facts.append(("chunks / documents", f"{counts.get('chunks')} / {counts.get('documents')}"))
        others = [name for name, one in found["collections"].items() if not one["default"]]
        facts += [("other collections", ", ".join(others))] if others else []
    else:
        facts.append(("index", "none yet: run `plinth quickstart`"))
    facts += [
        (f"registered {name}", ", ".join(f"{alias} {version}" for alias, version in aliases.items()))
        for name, aliases in found["registry"].items()
    ]
    facts += [("state (PLINTH_HOME)", found["home"]), ("artefacts (PLINTH_STORE)", found["store"])]
    facts.append(("disk used", ", ".join(f"{name} {human_bytes(size)}" for name, size in found["disk"].items())))
    print_facts(facts)
    print_jobs(found["jobs"])


def _replicas(one: dict[str, Any]) -> tuple[str, ...]:
    """A deployment's row: how many replicas it has and may have, how often that changed, and how last."""
    may = f"{one['min']} to {one['max']}" if one["max"] > one["min"] else "fixed"
    last = "{at}: {before} to {after}, {why}".format(**one["last"]) if one["last"] else ""
    return (one["name"], str(one["running"]), str(one["target"]), may, str(one["ups"]), str(one["downs"]), last)


def _kept_up(watch: dict[str, Any]) -> str:
    """What watches the head, and what it did."""
    state = "somebody watches" if watch["watched"] else "nobody watches: `plinth up` starts it"
    if watch["gave_up"]:
        state = f"given up, as it died too often: `plinth logs ray_head`; {state}"
    times = f", put up again {watch['restarts']} times, last: {watch['last']}" if watch["restarts"] else ""
    return state + times


def doctor(args: argparse.Namespace) -> int:
    """Print each check with what was found and the remedy; exit code 5 where one is bad, else 0.

    With ``--fields`` the fields of the configuration instead; exit code 0.
    """
    from cluster.doctor import examine

    home = Home.from_env()
    config = config_from(args, home)
    if args.fields:
        return _fields(args, config)
    checks = examine(config, home)
    if args.json:
        print_json([vars(check) for check in checks])
    else:
        rows = [(Text(c.state, STATE_STYLE[c.state]), c.name, c.found, c.remedy) for c in checks]
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
    """Print the variables another shell needs as ``export`` lines, with ``--json`` as one object; exit code 0.

    With ``--node`` those with which this machine takes part in a cluster.

    Raises:
        EnvironmentFaultError: nothing runs (without ``--node``).
        UsageError: the configuration is for a single machine (with ``--node``).
    """
    home, login = Home.from_env(), ""
    if args.node:
        from cluster.node import prepare

        variables = prepare(config_from(args, home), home, os.environ)
    else:
        from cluster.local_head import require_running
        from cluster.serve_mode import client_environment

        instance = require_running(home)
        variables = client_environment(
            home, instance.base_url, instance.ray_address, instance.dashboard_url, os.environ
        )
        login = f"# Ray's dashboard: {instance.login(home)}"
    if args.json:
        print_json(variables)
    else:
        for name, value in variables.items():
            print(f"export {name}={shlex.quote(value)}")
        if not args.node:
            key = home.api_key_path  # read by that shell: what is printed here stays in terminals and their logs
            print(f'export OPENAI_API_KEY="$(cat {shlex.quote(str(key))} 2>/dev/null || echo none)"')
        if login:
            print(login)
    return ExitCode.DONE
