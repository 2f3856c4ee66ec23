"""Ports that are found free and bound later."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from cluster import processes
from cluster.core.errors import EnvironmentFaultError
from cluster.processes import MARK, free_ports, marked


def test_free_ports_are_none_that_the_kernel_or_ray_give_away() -> None:
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    found = free_ports(40)
    assert len(set(found)) == 40
    assert all(port not in range(10002, 20000) and port not in range(30000, 31001) for port in found)
    assert lowest < 30000 or max(found) < lowest


def test_a_port_that_is_about_to_be_used_is_not_given_away(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = sorted(free_ports(2))
    monkeypatch.setattr(processes, "RESERVED", (first, second))
    assert free_ports(1, without=(first,)) == [second]


def test_a_port_in_use_is_not_free_and_too_few_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    (taken,) = free_ports(1)
    monkeypatch.setattr(processes, "RESERVED", range(taken, taken + 2))
    with socket.socket() as server:
        server.bind(("127.0.0.1", taken))
        server.listen()
        with pytest.raises(EnvironmentFaultError, match="are free"):
            free_ports(2)


def test_what_carries_the_mark_and_what_it_started_belong_to_an_instance() -> None:
    """Ray's agents write their title over their environment: six listeners were once not seen."""
    child = "import sys; sys.stdin.read()"
    code = f"import subprocess, sys; p = subprocess.Popen([sys.executable, '-c', {child!r}], env={{}}); print(p.pid)"
    command = [sys.executable, "-c", f"{code}; sys.stdout.flush(); p.wait()"]
    environ = {**os.environ, MARK: "a-test"}
    with subprocess.Popen(command, env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as started:
        assert started.stdout is not None
        unmarked = int(started.stdout.readline())
        assert {process.pid for process in marked("a-test")} == {started.pid, unmarked}
        assert marked("another") == []
        started.communicate()
