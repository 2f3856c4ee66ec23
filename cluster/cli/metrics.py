"""plinth metrics: what Prometheus and Grafana need to watch the service."""

from __future__ import annotations

import argparse
import json
from typing import Any

from cluster.cli.verbs import VERBS, Commands, add_group, add_verb
from cluster.core.entry import answers, config_from
from cluster.core.errors import ExitCode
from cluster.core.home import Home
from cluster.core.sections.cluster import LOOPBACK

RULES = """\
Latency percentiles by tier and stage, shares of failed, refused, grounded and found, and alerts that say what to do.
Put them beside prometheus.yml and name the file there under rule_files; `--scrape` prints the part of prometheus.yml
that scrapes this service, with the key in the file plinth_key beside it:

  umask 077
  plinth keys create prometheus --scope metrics --json |
    jq -r .key > plinth_key
  plinth metrics rules > plinth-rules.yml
  plinth metrics rules --scrape >> prometheus.yml"""
DASHBOARD = """\
Import it in Grafana (Dashboards, New, Import), which asks for the data source. It draws what `plinth metrics rules`
records.

  plinth metrics dashboard > plinth-dashboard.json"""


def register(commands: Commands) -> None:
    """Declare ``plinth metrics`` with its verbs."""
    group = add_group(commands, "metrics", VERBS["metrics"].summary)
    parser = add_verb(group, "rules", rules, "Print recording rules and alerts for Prometheus.", RULES)
    parser.add_argument("--index-days", type=float, default=30.0, metavar="DAYS",
                        help="older than so many days is an old index (30)")  # fmt: skip
    parser.add_argument("--scrape", action="store_true", help="print what to scrape instead")
    add_verb(group, "dashboard", dashboard, "Print a dashboard for Grafana.", DASHBOARD)


def rules(args: argparse.Namespace) -> int:
    """Print the rule file as YAML, with ``--json`` as JSON; exit code 0."""
    from serve_apps.metrics.rules import rule_file, scrape_config

    config = config_from(args, Home.from_env())
    target = f"{LOOPBACK}:{config.cluster.http_port}"
    _print(scrape_config(target) if args.scrape else rule_file(config.serve, args.index_days), args.json)
    return ExitCode.DONE


def dashboard(args: argparse.Namespace) -> int:
    """Print the dashboard, which is JSON; exit code 0."""
    from serve_apps.metrics.dashboard import dashboard as made

    _print(made(), as_json=True)
    return ExitCode.DONE


def _print(value: dict[str, Any], as_json: bool) -> None:
    import yaml

    text = json.dumps(value, indent=2) + "\n" if as_json else yaml.safe_dump(value, sort_keys=False, width=1000)
    print(text, end="", file=answers())
