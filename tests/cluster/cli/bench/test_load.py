"""`plinth bench serve` of a tier like quote: the HTTP application in process over fakes, on a real socket."""

from __future__ import annotations

from cluster.cli.bench.load import measure
from cluster.core.sections.serve import ServeSection
from tests.serve_apps.service import Service, on_socket


def test_two_services_are_asked_alike_and_in_turns() -> None:
    here, there = Service(), Service(section=ServeSection(max_prompt_chars=100))
    with on_socket(here.app()) as url, on_socket(there.app()) as other:
        found = measure(url, "quote", [1, 4], 10, against=other)
    for level in found["levels"]:
        assert (level["requests"], level["errors"]) == (10, 0)
        assert (level["against"]["requests"], level["against"]["errors"]) == (10, 0)
        assert level["ratio"] == level["requests_per_s"] / level["against"]["requests_per_s"]
        assert level["p50_ms"] <= level["p95_ms"]
        assert "retriever" in level["stages"]
    said = [[line for line in service.log if line["event"] == "request"] for service in (here, there)]
    assert [len(lines) for lines in said] == [40, 40]  # 20 unmeasured


def test_one_service_alone_and_what_fails_is_counted() -> None:
    with on_socket(Service().app()) as url:
        found = measure(url, "no-such-model", [2], 6)
    (level,) = found["levels"]
    assert (level["requests"], level["errors"]) == (6, 6)
    assert "against" not in level
