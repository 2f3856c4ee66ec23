"""The metrics page: the same series of several exporters become one, and stay valid Prometheus text."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from serve_apps.metrics.text import combined

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
# HELP ray_object_store_memory Not ours.
# TYPE ray_object_store_memory gauge
ray_object_store_memory{{WorkerId="{worker}"}} 7
"""


def test_samples_of_all_exporters_add_up() -> None:
    text = combined([PAGE.format(worker="a", count=2), PAGE.format(worker="b", count=3)], missing=1)
    samples = {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert samples["plinth_requests_total", (("route", "/v1/models"), ("status", "200"))] == 5
    assert samples["plinth_request_ms_bucket", (("le", "+Inf"),)] == 5
    assert samples["plinth_request_ms_sum", ()] == 10
    assert samples["plinth_index_chunks", ()] == 3, "two replicas hold the same index: the largest, not the sum"
    assert samples["plinth_metrics_nodes_missing", ()] == 1
    assert "WorkerId" not in text
    assert "object_store" not in text
