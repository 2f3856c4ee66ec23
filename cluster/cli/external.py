"""plinth models external: which tiers answer on another server, and the switch with which one is asked no more."""

from __future__ import annotations

import argparse
import time
from typing import Any

from rich.text import Text

from cluster.cli.output import console, print_json, print_table
from cluster.cli.verbs import Commands, add_verb, unknown
from cluster.core.config import PlinthConfig
from cluster.core.entry import config_from
from cluster.core.errors import EnvironmentFaultError, ExitCode, UsageError
from cluster.core.home import Home
from cluster.core.storage import Store

LIST, ON, OFF = "list", "on", "off"
HEARD_S = 15.0
DETAILS = """\
An external tier is an entry of serve.tiers with engine=openai. `off` holds for every replica that shares this store,
within a second and without a new deployment: what is being answered is broken off, nothing is sent any more, and the
tier `instead` (else the fallback) answers, marked as degraded. It stays off through restarts until `on`.

  plinth models external                          which there are
  plinth models external off gpt --why "..."      ask it no more
  plinth models external on gpt                   ask it again"""


def register_external(group: Commands) -> None:
    """Declare ``plinth models external``."""
    parser = add_verb(group, "external", external, "List tiers of other servers, or switch one off or on.", DETAILS)
    parser.add_argument("action", nargs="?", choices=(LIST, ON, OFF), default=LIST, help="default: list")
    parser.add_argument("tier", nargs="?", default="", help="its name")
    parser.add_argument("--why", default="", help="kept with the switch, and shown")


def external(args: argparse.Namespace) -> int:
    """Print the external tiers and how their switches stand, after switching one; exit code 0.

    Raises:
        UsageError: there is no such external tier.
        EnvironmentFaultError: the store takes no file, or the running service does not follow.
    """
    from serve_apps.replicas.switch import write_switch

    home = Home.from_env()
    config, store = config_from(args, home), Store(home.store_uri)
    names = [tier.name for tier in config.serve.tiers if tier.external]
    if args.action != LIST:
        if args.tier not in names:
            raise UsageError(unknown("there is no external tier", args.tier, names) if args.tier else
                             f"plinth models external {args.action} TIER: which one?")  # fmt: skip
        write_switch(store, args.tier, args.action == ON, args.why)
        _wait_until(home, args.tier, args.action == ON)
    found = external_tiers(config, store)
    if args.json:
        print_json(found)
    elif not found:
        console.print('No tier answers on another server: see README, "Tiers, guards, routes".')
    else:
        rows = [(t["name"], t["model"], t["host"], "on" if t["on"] else Text("off", "red"), t["instead"], t["since"],
                 t["why"]) for t in found]  # fmt: skip
        print_table("External tiers", ("tier", "model", "host", "switch", "instead", "since", "why"), rows)
    return ExitCode.DONE


def external_tiers(config: PlinthConfig, store: Store) -> list[dict[str, Any]]:
    """What is configured of each external tier, and how its switch stands."""
    from serve_apps.replicas.switch import read_switch

    fallback = next((tier.name for tier in config.serve.tiers if tier.fallback), "")
    found = []
    for tier in (tier for tier in config.serve.tiers if tier.external):
        switch = read_switch(store, tier.name)
        found.append({
            "name": tier.name, "model": tier.model, "host": tier.host, "on": switch.on, "since": switch.at,
            "why": switch.why, "instead": tier.instead or fallback,
        })  # fmt: skip
    return found


def _wait_until(home: Home, tier: str, on: bool) -> None:
    """Until the running service, where there is one, says that it has heard. Switched on, a tier may still lack its
    key: then it says why in `plinth status`, and that is not waited for."""
    from cluster.local_head import recorded
    from cluster.loopback import api_key, get

    instance = recorded(home)
    if instance is None or on:
        return
    deadline, heard = time.monotonic() + HEARD_S, None
    while time.monotonic() < deadline:
        try:
            reply = get(f"{instance.base_url}/v1/models/{tier}", 5, api_key())
        except OSError:
            return  # nothing runs, so nothing is asked
        heard = reply.json().get("plinth", {}).get("enabled") if reply.status == 200 else False
        if not heard:
            return
        time.sleep(0.2)
    raise EnvironmentFaultError(f"{tier} is switched off, and the service at {instance.base_url} did not follow within "
                                f"{HEARD_S:g} s: `plinth status`")  # fmt: skip
