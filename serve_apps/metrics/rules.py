"""Prometheus rules over the metrics of ``/metrics``: what is worth recording, and what is worth waking somebody for."""

from __future__ import annotations

from typing import Any

from cluster.core.sections.serve import ServeSection

JOB = "plinth"  # the name of the scrape job
_WORK = '{route!~"/healthz|/readyz|/metrics|/|/console/.*|/ops|/review|/v1/plinth/ops"}'  # probes and pages are no work
_HELD_BACK = '{stage="guard_out", action=~"redact|block"}'  # of what was about to leave
QUANTILES = (50, 95, 99)


def _rate(metric: str, by: str, within: str = "5m", only: str = "") -> str:
    return f"sum by ({by}) (rate({metric}{only}[{within}]))"


def _quantile(metric: str, percent: int, by: str, only: str = "") -> str:
    return f"histogram_quantile({percent / 100:g}, {_rate(f'{metric}_bucket', f'le, {by}', only=only)})"


def _share(metric: str, part: str, by: str = "", within: str = "30m", whole: str = "") -> str:
    """The part with these labels of the whole; no whole, no share: a division by 0 would be no number."""
    grouped = f"sum by ({by})" if by else "sum"
    all_of_it = f"{grouped} (rate({metric}{{{whole}}}[{within}]))"
    labels = ", ".join(filter(None, (whole, part)))
    return f"({grouped} (rate({metric}{{{labels}}}[{within}])) or 0 * {all_of_it}) / ({all_of_it} > 0)"


def recording_rules() -> dict[str, str]:
    """Name to expression."""
    found = {
        "plinth:requests:rate5m": _rate("plinth_requests_total", "route, status", only=_WORK),
        "plinth:errors:ratio5m": _share("plinth_requests_total", 'status=~"5.."', within="5m", whole=_WORK[1:-1]),
        "plinth:refused:ratio5m": _share("plinth_requests_total", 'status="503"', within="5m", whole=_WORK[1:-1]),
        # What the edge refuses never comes to a gateway: HAProxy's own count, as Serve tells it.
        "plinth:edge_refused:ratio5m": _share(
            "ray_serve_num_http_requests_total", 'status_code="503"', within="5m", whole='method="POST"'
        ),
        "plinth:answers:grounded_ratio30m": _share("plinth_answers_total", 'grounded="true"', "tier"),
        "plinth:retrievals:hit_ratio30m": _share("plinth_retrievals_total", 'outcome="hit"'),
        "plinth:cache:hit_ratio30m": _share(
            "plinth_cache_requests_total", 'outcome=~"hit|alike"', whole='outcome!="bypass"'
        ),
        "plinth:tokens:rate5m": _rate("plinth_tokens_total", "tier, kind"),
        "plinth:auth_failures:rate5m": _rate("plinth_auth_failures_total", "reason"),
        "plinth:held_back:rate5m": _rate("plinth_verdicts_total", "action, rule", only=_HELD_BACK),
        "plinth:verdicts:rate5m": _rate("plinth_verdicts_total", "stage, action"),
    }
    for percent in QUANTILES:
        found[f"plinth:request_ms:p{percent}_5m"] = _quantile("plinth_request_ms", percent, "tier", _WORK)
        found[f"plinth:stage_ms:p{percent}_5m"] = _quantile("plinth_stage_ms", percent, "stage, tier")
        found[f"plinth:first_text_ms:p{percent}_5m"] = _quantile("plinth_first_text_ms", percent, "tier")
    return found


def alerts(section: ServeSection, index_days: float) -> list[dict[str, Any]]:
    """What somebody should look at. Each says what it means and what to do.

    Args:
        section: what the service was told: a request should not take longer than it may wait.
        index_days: an index that nobody built anew for so long is old.
    """
    wait_ms = section.longest_wait_s * 1000
    return [
        _alert("PlinthDown", f'up{{job="{JOB}"}} == 0', "2m", "critical", "/metrics does not answer",
               "`plinth status` names the part that is missing"),
        _alert("PlinthErrors", "plinth:errors:ratio5m - plinth:refused:ratio5m > 0.01", "5m", "critical",
               "more than 1 % of the requests fail", "`plinth logs gateway` has each with its request id"),
        _alert("PlinthOverloaded", "plinth:refused:ratio5m > 0.05 or plinth:edge_refused:ratio5m > 0.05", "5m",
               "warning", "more than 5 % of the requests are refused with 503",
               "more replicas: serve.*_replicas, serve.tiers"),
        _alert("PlinthKeysRefused", "sum(increase(plinth_auth_failures_total[10m])) > 100", "0m", "warning",
               "somebody tries keys, or one that is in use has ended",
               "plinth:auth_failures:rate5m says why; `plinth keys list --all`"),
        _alert("PlinthFlooded", 'increase(plinth_refused_total{reason="too_many_refused"}[10m]) > 1000', "0m",
               "warning", "an address asks on and on without a key that works",
               "shut it out in front of the service; trust.refusals_per_minute says how soon it waits"),
        _alert("PlinthScraping", "increase(plinth_scraping_total[1h]) > 0", "0m", "warning",
               "a key was shown more different documents than trust.scraping_documents",
               "`plinth audit show` names it (scraping_suspected); `plinth keys revoke` ends it"),
        _alert("PlinthPrivacyIncidents", f"sum(increase(plinth_verdicts_total{_HELD_BACK}[1h])) > 20", "0m", "warning",
               "personal data, or what a policy forbids, was held back from more than 20 answers within an hour",
               "plinth:held_back:rate5m says by which rule; `plinth data report`: was the corpus redacted?"),
        _alert("PlinthSlow", f"plinth:request_ms:p95_5m > {round(wait_ms)}", "10m", "warning",
               f"one request in twenty takes longer than serve.longest_wait_s ({section.longest_wait_s:g} s)",
               "plinth:stage_ms:p95_5m says in which stage"),
        _alert("PlinthNothingFound", "plinth:retrievals:hit_ratio30m < 0.3", "30m", "warning",
               "seven searches in ten find nothing that resembles the question",
               "`plinth gaps list` says what is missing"),
        _alert("PlinthIndexOld", f"plinth_index_age_seconds > {round(index_days * 86_400)}", "1h", "warning",
               f"the serving index is older than {index_days:g} days", "`plinth index build`, or `plinth index watch`"),
        _alert("PlinthNoReplica", "ray_serve_deployment_replica_healthy < 1", "2m", "critical",
               "a deployment has no healthy replica", "`plinth status`, then `plinth logs`"),
        _alert("PlinthRestarts", "delta(plinth_head_restarts[1h]) > 2", "0m", "warning",
               "the head was put up again three times within an hour", "`plinth logs cluster` says what died"),
        _alert("PlinthAuditLost", "sum(rate(plinth_audit_lost_total[10m])) > 0", "0m", "critical",
               "audit records were lost", "`plinth logs audit` says why; trust.audit.required refuses instead"),
        _alert("PlinthAuditStuck", "plinth_audit_waiting > 1000", "5m", "critical",
               "audit records are not written", "`plinth logs audit`: is the head's disk full?"),
        _alert("PlinthAuditDamaged", "plinth_audit_damaged > 0", "0m", "critical",
               "the audit log was changed", "`plinth audit verify` names the first bad record"),
        _alert("PlinthNodesMissing", "plinth_metrics_nodes_missing > 0", "10m", "warning",
               "a node's metrics agent does not answer", "`ray status` lists the nodes"),
    ]  # fmt: skip


def _alert(name: str, expression: str, lasts: str, severity: str, summary: str, action: str) -> dict[str, Any]:
    return {
        "alert": name, "expr": expression, "for": lasts, "labels": {"severity": severity},
        "annotations": {"summary": summary, "action": action},
    }  # fmt: skip


def rule_file(section: ServeSection, index_days: float) -> dict[str, Any]:
    """What Prometheus reads as a rule file."""
    recorded = [{"record": name, "expr": expression} for name, expression in sorted(recording_rules().items())]
    groups = [
        {"name": "plinth", "interval": "30s", "rules": recorded},
        {"name": "plinth-alerts", "rules": alerts(section, index_days)},
    ]
    return {"groups": groups}


def scrape_config(target: str) -> dict[str, Any]:
    """A part of ``prometheus.yml``: where to scrape, and with which key (`plinth keys create prometheus --scope
    metrics`). ``target``: host and port."""
    job = {
        "job_name": JOB,
        "scrape_interval": "15s",
        "authorization": {"type": "Bearer", "credentials_file": "plinth_key"},
        "static_configs": [{"targets": [target]}],
    }
    return {"scrape_configs": [job]}
