"""Rules, alerts and dashboard ask for metrics and labels that exist, and Prometheus takes them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster.cli.main import main
from cluster.core.sections.serve import ServeSection
from cluster.core.telemetry import METRICS
from serve_apps.metrics.dashboard import COLUMNS, dashboard
from serve_apps.metrics.rules import recording_rules, rule_file
from serve_apps.metrics.text import SERVES
from tests.conftest import needs

# Labels of what is not ours; of Ray Serve's metrics those that are left on the page.
OTHERS = {
    "up": {"job"},
    "plinth_metrics_nodes_missing": set(),
    **{
        name: {"deployment", "application", "route", "method", "status_code"}
        for serves in SERVES
        for name in (serves, f"{serves}_total")
    },
}
WORDS = {"increase", "sum", "max", "rate", "delta", "by", "or", "histogram_quantile"}


def exported() -> dict[str, set[str]]:
    """What is on the page, as it is named there, and the labels it has."""
    found: dict[str, set[str]] = {}
    for metric in METRICS.values():
        endings = ("_bucket", "_count", "_sum") if metric.kind == "histogram" else ("",)
        for ending in endings:
            found[metric.name + ending] = {*metric.labels, *(("le",) if ending == "_bucket" else ())}
    return {**found, **OTHERS}


def recorded(expression: str) -> set[str]:
    """The labels that a recorded series has: those it is grouped by, but for a histogram's bounds."""
    outer = re.search(r"by \(([^)]*)\)", expression)
    return {label.strip() for label in outer[1].split(",")} - {"le"} if outer else set()


def expressions() -> dict[str, str]:
    """Every expression, by what it is for."""
    groups = rule_file(ServeSection(), 30.0)["groups"]
    found = {str(rule.get("record") or rule["alert"]): str(rule["expr"]) for group in groups for rule in group["rules"]}
    for panel in dashboard()["panels"]:
        for target in panel.get("targets", []):
            found[f"{panel['title']} {target['refId']}"] = target["expr"]
    return found


def asked(expression: str) -> tuple[set[str], set[str]]:
    """The names of metrics, and those of labels, in an expression."""
    labels = {match for block in re.findall(r"\{([^}]*)\}", expression) for match in re.findall(r"(\w+)\s*[=!]", block)}
    labels |= {label.strip() for block in re.findall(r"by \(([^)]*)\)", expression) for label in block.split(",")}
    bare = re.sub(r"\{[^}]*\}|\[[^\]]*\]|by \([^)]*\)", " ", expression)
    return set(re.findall(r"[a-zA-Z_][\w:]*", bare)) - WORDS, labels


@pytest.mark.parametrize("name", expressions())
def test_what_is_asked_for_is_there(name: str) -> None:
    there = exported() | {rule: recorded(expression) for rule, expression in recording_rules().items()}
    metrics, labels = asked(expressions()[name])
    assert metrics, "an expression asks for something"
    assert metrics <= there.keys(), f"no such metric: {metrics - there.keys()}"
    assert labels <= set().union(*(there[metric] for metric in metrics)), f"no such label, of {labels}"


def test_a_metric_that_is_gone_would_be_noticed() -> None:
    assert asked('sum by (le, nope) (rate(plinth_gone_bucket{route!~"/x"}[5m])) or 0 * up') == (
        {"plinth_gone_bucket", "up"}, {"le", "nope", "route"},
    )  # fmt: skip


def test_every_histogram_and_counter_is_looked_at() -> None:
    """Nothing is measured that no rule and no panel shows."""
    everything = " ".join(expressions().values())
    unseen = {name for name, metric in METRICS.items() if metric.kind != "gauge" and name not in everything}
    assert unseen <= {"plinth_retrieval_ms"}, unseen


def test_alerts_say_what_to_do_and_recorded_names_are_used() -> None:
    section = ServeSection(longest_wait_s=7.0)
    rules = [rule for group in rule_file(section, 2.0)["groups"] for rule in group["rules"]]
    alerts = {rule["alert"]: rule for rule in rules if "alert" in rule}
    assert all(set(rule["annotations"]) == {"summary", "action"} for rule in alerts.values())
    assert {rule["labels"]["severity"] for rule in alerts.values()} == {"critical", "warning"}
    assert alerts["PlinthSlow"]["expr"].endswith("> 7000")
    assert alerts["PlinthIndexOld"]["expr"].endswith("> 172800")


def test_panels_stand_beside_each_other() -> None:
    """No two cover the same place, none stands out of the page, each has an id of its own."""
    panels = dashboard()["panels"]
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, panel["title"]
        assert at["x"] + at["w"] <= COLUMNS
        taken |= cells
    assert len({panel["id"] for panel in panels}) == len(panels)


def test_the_command_prints_what_the_tools_read(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLINTH_HOME", str(tmp_path))

    def printed(*words: str) -> str:
        assert main(["metrics", *words]) == 0
        return capsys.readouterr().out

    rules: Any = yaml.safe_load(printed("rules", "--set", "serve.longest_wait_s=9", "--index-days", "1"))
    assert rules == rule_file(ServeSection(longest_wait_s=9.0), 1.0)
    assert json.loads(printed("rules", "--json")) == rule_file(ServeSection(), 30.0)
    assert json.loads(printed("dashboard")) == dashboard()
    scrape: Any = yaml.safe_load(printed("rules", "--scrape", "--set", "cluster.http_port=8123"))
    assert scrape["scrape_configs"][0]["static_configs"] == [{"targets": ["127.0.0.1:8123"]}]


@pytest.mark.process
def test_prometheus_takes_the_rules(tmp_path: Path) -> None:
    needs(shutil.which("promtool") is not None, "promtool (apt-get install prometheus)")
    path = tmp_path / "rules.yml"
    path.write_text(yaml.safe_dump(rule_file(ServeSection(), 30.0)))
    done = subprocess.run(["promtool", "check", "rules", str(path)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
