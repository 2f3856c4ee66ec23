"""The training part of `plinth quickstart`: a model of one's own, judged, live if it passed, shown either way."""

from __future__ import annotations

from typing import Any

from actors.registry.models import Registry
from cluster.cli.ask import print_answer, stream_answer
from cluster.cli.models import print_checks
from cluster.cli.output import Stages, console, print_table
from cluster.cli.service import wait_until_live
from cluster.connect import connected
from cluster.core.config import PlinthConfig
from cluster.core.errors import TooSlowError
from cluster.core.home import Home
from cluster.core.records import Manifest
from cluster.core.storage import Store


def train(
    config: PlinthConfig,
    home: Home,
    base_url: str,
    corpus: tuple[Manifest, Manifest],
    seconds: float,
    stages: Stages,
) -> dict[str, Any]:
    """Train on a corpus (dataset and index), wait until the service has the model, and print the gate's table.

    Returns what --json prints of it: the model and its gate, or under ``skipped`` why there is none (too few documents,
    or a machine that would not get far enough in ``seconds``).
    """
    dataset, index = corpus
    if dataset.counts["kept"] < config.train.min_documents:
        why = (
            f"{dataset.counts['kept']:,} documents are fewer than train.min_documents={config.train.min_documents}; "
            "`quote` answers alone"
        )
        stages.skip("train a model", why)
        return {"skipped": why}
    if stages.show:
        console.print("\nThe service answers already; now a model of its own is trained on the corpus.")
    store = Store(home.store_uri)
    with connected(home):
        from train_jobs.build_model import build_model

        try:
            built = build_model(config, store, dataset, index, stages, seconds)
        except TooSlowError as error:
            said = error.extras
            why = (
                f"this machine makes {said['steps']:,} steps of fine-tuning in the time and a model needs "
                f"{said['wanted']:,}; give --train-minutes {said['minutes']}"
            )
            stages.skip(stages.current, why)
            return {"skipped": why}
    with stages.run("take the model live"):
        # A refused model leaves an earlier champion in its place.
        served = Registry(store).served(built.model.name)
        live, auto = (served.manifest, served.champion) if served else (built.model, False)
        wait_until_live(base_url, live, home, auto)
    if stages.show:
        print_gate(built.model.name, built.gate.to_dict())
        _show_one_answer(base_url, built.model.name)
    return {
        "name": built.model.name, "version": built.model.version, "gate": built.gate.to_dict(),
        "held_out": built.report,
    }  # fmt: skip


def print_gate(name: str, gate: dict[str, Any]) -> None:
    """The gate's table, passed or refused."""
    verdict = "passed" if gate["passed"] else "refused"
    console.print()
    print_checks(f"Gate of {name}: {verdict}", gate["checks"])
    if not gate["passed"]:
        console.print(f"`{name}` answers only when asked for by name; `auto` stays with what passed.")


def print_contenders(report: dict[str, Any]) -> None:
    """A model that writes beside the pointing model and the quote tier, on the same questions."""
    columns = ("answered", "right", "named", "abstained", "score", "ms")
    rows = [
        (name, *(f"{one[key]:.3f}" if key in one else "-" for key in columns))
        for name, one in report["contenders"].items()
    ]
    print_table("On the same held-out questions", ("", *columns), rows, numeric=columns)
    written, pace = report["written"], report["pace"]
    console.print(
        f"Of {written['statements']} statements written the check let {written['own']} through; the quotation stands "
        f"for {written['replaced']}. First token after {pace['first_token_s']:.2f} s, {pace['tokens_per_s']:.0f} "
        "tokens/s."
    )


def _show_one_answer(base_url: str, name: str) -> None:
    question = "How do I copy a file?"
    console.print(f"\n[bold]{question}[/bold] (asked of {name} by name)")
    print_answer(stream_answer(base_url, [{"role": "user", "content": question}], name, None))
