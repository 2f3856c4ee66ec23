"""`plinth up` and the supervisor's restart where a part of the service does not come up."""

from __future__ import annotations

import argparse
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cluster import local_head
from cluster.cli import service
from cluster.cli.output import Stages
from cluster.cli.supervise import supervise
from cluster.core.config import PlinthConfig, configured
from cluster.core.errors import EnvironmentFaultError, ExitCode
from cluster.core.home import Home

INSTANCE: Any = SimpleNamespace(base_url="http://127.0.0.1:1", id="one")
BROKEN = EnvironmentFaultError("Deploying application plinth failed: tier-large")


@pytest.fixture
def watched(home: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Which homes somebody began to watch."""
    found: list[Path] = []
    monkeypatch.setattr(service, "start_watching", lambda at, environ: found.append(at.root))
    monkeypatch.setattr(service, "start_head", lambda *what: INSTANCE)
    monkeypatch.setattr(local_head, "stop", lambda at: 0)
    return found


def deployment_fails(monkeypatch: pytest.MonkeyPatch, answers: bool) -> None:
    def fail(*what: Any) -> None:
        raise BROKEN

    monkeypatch.setattr(service, "_deploy", fail)
    monkeypatch.setattr(service, "answers", lambda url, path: answers)


@pytest.mark.parametrize("supervised", [True, False])
def test_a_failed_deployment_leaves_a_watched_head(
    supervised: bool, home: Path, watched: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    deployment_fails(monkeypatch, answers=True)
    config = configured(PlinthConfig(), [f"cluster.supervise={str(supervised).lower()}"])
    with pytest.raises(EnvironmentFaultError, match="tier-large"):
        service.bring_up(config, Home.from_env(), Stages(show=False))
    assert watched == ([home] if supervised else [])


@pytest.mark.parametrize(("answers", "code"), [(True, ExitCode.DONE), (False, None)])
def test_a_restart_that_answers_without_a_part_is_not_tried_again(
    answers: bool, code: int | None, watched: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    deployment_fails(monkeypatch, answers)
    args = argparse.Namespace(restart=True, unit=False, json=True, overrides=[], preset=None)
    if code is None:
        with pytest.raises(EnvironmentFaultError, match="tier-large"):
            supervise(args)
    else:
        assert supervise(args) == code
