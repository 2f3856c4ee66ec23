"""Suites that score a part of the data plane on labelled data (``plinth eval run --suite pii --data PATH``).

They need no running service. Each takes the data, the settings and the progress bar, and returns what ``--json`` prints
and the tables for people.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster.cli.output import Stages, print_json, print_table
from cluster.core.config import PlinthConfig
from cluster.core.errors import ExitCode, UsageError


@dataclass(frozen=True)
class Table:
    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    numeric: Sequence[str] = ()


Suite = Callable[[Path, PlinthConfig, Callable[[int], None]], tuple[dict[str, Any], list[Table]]]


def run_data_suite(name: str, data: str | None, config: PlinthConfig, as_json: bool) -> int:
    """Score and print.

    Raises:
        UsageError: no data were named.
        BadInputError: the data have not the suite's form.
    """
    if not data:
        raise UsageError(f"suite {name} needs labelled data: --data PATH")
    suite, unit = DATA_SUITES[name]
    stages = Stages(show=not as_json)
    with stages.run(f"suite {name}"):
        started = False

        def on_item(total: int) -> None:
            nonlocal started
            if not started:
                stages.stage("scoring", total, unit)
                started = True
            stages.advance()

        result, tables = suite(Path(data), config, on_item)
    if as_json:
        print_json(result)
        return ExitCode.DONE
    for table in tables:
        print_table(table.title, table.columns, table.rows, table.numeric)
    return ExitCode.DONE


def _pii(data: Path, config: PlinthConfig, on_item: Callable[[int], None]) -> tuple[dict[str, Any], list[Table]]:
    from data_jobs.pii.names import load_names
    from train_jobs.evaluation.pii_suite import score_pii

    model = config.data.name_model
    result = score_pii(data, load_names(model) if model else None, model, on_item)
    columns = ("half", "type", "precision", "recall", "F1", "characters", "found")
    tables = [
        Table(f"pii on {data} ({result.rows} rows)", columns, result.lines(), columns[2:]),
        Table("Labels that are none of our types", ("label", "spans"), list(result.unmapped.items()), ("spans",)),
    ]
    return result.to_dict(), tables


def _dedup(data: Path, config: PlinthConfig, on_item: Callable[[int], None]) -> tuple[dict[str, Any], list[Table]]:
    from train_jobs.evaluation.dedup_suite import THRESHOLDS, score_dedup

    thresholds = sorted({*THRESHOLDS, config.data.near_duplicate_jaccard})
    result = score_dedup(data, thresholds, on_item)
    columns = ("Jaccard", "pairs", "recall", "precision", "clusters", "found", "cluster F1", "ARI")
    title = f"dedup on {data} ({result.documents} documents, {result.listed_pairs} pairs with exact similarity)"
    return result.to_dict(), [Table(title, columns, result.lines(), columns)]


# Name -> the suite and what its items are.
DATA_SUITES: dict[str, tuple[Suite, str]] = {"pii": (_pii, "rows"), "dedup": (_dedup, "documents")}
