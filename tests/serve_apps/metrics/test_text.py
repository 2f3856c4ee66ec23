"""The metrics page: the same series of several exporters become one, and stay valid Prometheus text."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from serve_apps.metrics.ledger import Ledger
from serve_apps.metrics.text import gauges, page, readings

PAGE = """# HELP ray_plinth_requests_total Requests.
# TYPE ray_plinth_requests_total counter
ray_plinth_requests_total{{WorkerId="{worker}",route="/v1/models",status="200"}} {count}
# HELP ray_plinth_request_ms Milliseconds.
# TYPE ray_plinth_request_ms histogram
ray_plinth_request_ms_bucket{{WorkerId="{worker}",le="10.0"}} {count}
ray_plinth_request_ms_bucket{{WorkerId="{worker}",le="+Inf"}} {count}
ray_plinth_request_ms_count{{WorkerId="{worker}"}} {count}
ray_plinth_request_ms_sum{{WorkerId="{worker}"}} 5.0
# HELP ray_plinth_index_chunks Chunks.
# TYPE ray_plinth_index_chunks gauge
ray_plinth_index_chunks{{WorkerId="{worker}"}} {count}
# HELP ray_serve_num_http_requests_total Serve's.
# TYPE ray_serve_num_http_requests_total counter
ray_serve_num_http_requests_total{{WorkerId="{worker}",method="POST",route="/"}} {count}
ray_serve_num_http_requests_total{{WorkerId="{worker}",method="{method}",route="/"}} 1
# HELP ray_serve_replica_processing_queries Running.
# TYPE ray_serve_replica_processing_queries gauge
ray_serve_replica_processing_queries{{WorkerId="{worker}",deployment="guard"}} {count}
# HELP ray_object_store_memory Not ours.
# TYPE ray_object_store_memory gauge
ray_object_store_memory{{WorkerId="{worker}"}} 7
"""


def samples(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """The samples of a page by name and labels."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def together(pages: dict[str, str], missing: int = 0) -> str:
    ledger, found = Ledger(), {node: list(readings(text)) for node, text in pages.items()}
    ledger.enter(found, list(found), 0.0)
    everything = [one for told in found.values() for one in told]
    families = {one.family.name: one.family for one in everything}
    return page({**ledger.totals(), **gauges(everything)}, families, missing)


def test_samples_of_all_exporters_add_up() -> None:
    pages = {"x": PAGE.format(worker="a", count=2, method="HEAD"), "y": PAGE.format(worker="b", count=3, method="GET")}
    text = together(pages, missing=1)
    found = samples(text)
    assert found["plinth_requests_total", (("route", "/v1/models"), ("status", "200"))] == 5
    assert found["plinth_request_ms_bucket", (("le", "+Inf"),)] == 5
    assert found["plinth_request_ms_sum", ()] == 10
    assert found["plinth_index_chunks", ()] == 3, "two replicas hold the same index: the largest, not the sum"
    assert found["ray_serve_replica_processing_queries", (("deployment", "guard"),)] == 5
    assert found["plinth_metrics_nodes_missing", ()] == 1
    assert "WorkerId" not in text
    assert "object_store" not in text
    assert text.count("# TYPE plinth_request_ms histogram") == 1


def test_methods_that_clients_make_up_are_one_series() -> None:
    pages = {f"{n}": PAGE.format(worker="a", count=1, method=f"MADE{n}") for n in range(50)}
    found = samples(together(pages))
    assert [labels for name, labels in found if name == "ray_serve_num_http_requests_total"] == [
        (("method", "POST"), ("route", "/")), (("method", "other"), ("route", "/")),
    ]  # fmt: skip
    assert found["ray_serve_num_http_requests_total", (("method", "other"), ("route", "/"))] == 50


def test_labels_and_help_are_escaped() -> None:
    odd = 'ray_plinth_x{a="q\\"b\\\\s\\nn"} 1'
    text = together({"x": f"# HELP ray_plinth_x One\\\\two\\nthree\n# TYPE ray_plinth_x gauge\n{odd}\n"})
    assert samples(text)["plinth_x", (("a", 'q"b\\s\nn'),)] == 1
    assert "# HELP plinth_x One\\\\two\\nthree\n" in text
