"""What each tier does, and of one that does not answer why, for `plinth status`.

Three say something of it: the service lists who answers, replicas write into the log ``model`` what they loaded and
what they refused, and Serve knows of replicas that do not stand.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cluster.core.sections.tiers import TierConfig

SERVES, WAITS, OFF, DOWN = "serves", "waits", "off", "down"
SWITCHED_OFF = "switched off"  # how an external replica's reason begins where somebody did it


def tier_states(
    tiers: Sequence[TierConfig],
    cards: Mapping[str, Mapping[str, Any]],
    loads: Mapping[str, Mapping[str, Any]],
    problems: Mapping[str, str],
) -> list[dict[str, Any]]:
    """One row for each tier: ``name, runs, version, state, why``.

    Args:
        cards: what ``/v1/models`` says, by name.
        loads: of each artefact the last line of the log about it (``last_loads``).
        problems: what Serve says of each deployment that is not healthy.
    """
    return [_state(tier, cards.get(tier.name), loads, problems.get(f"tier-{tier.name}", "")) for tier in tiers]


def _state(
    tier: TierConfig, card: Mapping[str, Any] | None, loads: Mapping[str, Mapping[str, Any]], problem: str
) -> dict[str, Any]:
    runs = f"{tier.model} at {tier.host}" if tier.external else tier.kind if tier.kind != "model" else tier.engine
    artefact = f"tiers/{tier.name}" if tier.external else f"models/{tier.registered_name}"
    line = loads.get(artefact, {}) if tier.kind == "model" else {}
    refused = f"{line['version']} refused: {line['error']}" if line.get("event") == "refused" else ""
    row = {"name": tier.name, "runs": runs, "version": "", "state": DOWN, "why": problem or refused, "external": False}
    if tier.external:
        on = card is not None and bool(card.get("enabled"))
        why = "" if on else problem or line.get("error", "")
        state = SERVES if on else OFF if why.startswith(SWITCHED_OFF) else DOWN
        return {**row, "version": tier.model, "state": state, "why": why, "external": True}
    if card is not None:  # an older version may serve while the newest one is refused
        return {**row, "version": card.get("version", ""), "state": SERVES}
    if row["why"]:
        return row
    # A tier that quotes has no model to wait for: its replicas start with the service.
    why = f"no version of {tier.registered_name} is registered, or it is being loaded"
    return {**row, "state": WAITS, "why": why if tier.kind == "model" else "its replicas are starting"}


def last_loads(log: Path, since: str) -> dict[str, dict[str, Any]]:
    """Of each artefact the last line that says that it went live or was refused: ``event, version, error``.

    Args:
        since: ISO time; earlier ones are left out.
    """
    try:
        lines: Iterable[str] = log.read_text().splitlines()
    except OSError:
        return {}
    found = {}
    for line in lines:
        try:
            row = json.loads(line)
            if row["event"] in ("live", "refused") and row["ts"] >= since:
                kept = {name: str(row.get(name, "")) for name in ("event", "version", "error")}
                found[str(row["artefact"])] = kept
        except (ValueError, KeyError, TypeError):  # a line that was cut
            continue
    return found
