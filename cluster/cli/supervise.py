"""plinth supervise: keep up what `plinth up` started."""

from __future__ import annotations

import argparse
import os
import subprocess

from cluster.cli.output import Stages, print_json
from cluster.cli.verbs import VERBS, Commands, add_verb
from cluster.core.config import PlinthConfig
from cluster.core.entry import answers, config_from
from cluster.core.errors import ExitCode, PlinthError, UsageError
from cluster.core.home import Home
from cluster.core.telemetry import log_event

DETAILS = """\
Looks at the head's processes once a second. When one is gone, whatever it was, everything is ended and put up again
with the configuration it had: at once the first time, then after 5, 15, 30 and 60 seconds. After 8 times within half an
hour it gives up. `plinth status` says how often it happened and why, `plinth logs cluster` has a line for each.

`plinth up` starts it in the background, `plinth down` ends it (--set cluster.supervise=false: neither). A machine that
starts again by itself wants a unit instead:

  plinth supervise --unit > ~/.config/systemd/user/plinth.service
  systemctl --user enable --now plinth"""


def register(commands: Commands) -> None:
    """Declare ``plinth supervise``."""
    parser = add_verb(commands, "supervise", supervise, VERBS["supervise"].summary, DETAILS)
    one = parser.add_mutually_exclusive_group()
    one.add_argument("--restart", action="store_true", help="end everything and put it up again, once and now")
    one.add_argument("--unit", action="store_true", help="print a systemd unit that watches, and do nothing else")


def supervise(args: argparse.Namespace) -> int:
    """Watch until told to end; exit code 0 where somebody watches already, 5 where the head died too often.

    Raises:
        UsageError: the configuration is for several machines, whose own launcher does this.
    """
    from cluster import supervision

    home = Home.from_env()
    config = config_from(args, home)
    if not config.cluster.single_node:
        raise UsageError("on several machines Ray's launcher or KubeRay starts a head again: see ray-cluster.yaml")
    if args.unit:
        print(supervision.unit(home, os.environ), end="", file=answers())
        return ExitCode.DONE
    if args.restart:
        return _restart(config, home, args.json)
    return supervision.watch(home, lambda: subprocess.run(supervision.restart_command(), check=False).returncode)  # noqa: S603


def _restart(config: PlinthConfig, home: Home, as_json: bool) -> int:
    """A service that answers without a part of it counts as up: what did not come up this time would not the next."""
    from cluster import local_head
    from cluster.cli import service

    local_head.stop(home)
    stages = Stages(show=not as_json)
    instance = service.start_head(config, home, stages)
    try:
        service.deploy(config, home, instance, stages)
    except PlinthError as error:
        if not service.answers(instance.base_url, "/healthz"):
            raise
        log_event("cluster", "restarted_in_part", error=error.message[:300])
    if as_json:
        print_json({"base_url": instance.base_url, "seconds": stages.seconds})
    return ExitCode.DONE
