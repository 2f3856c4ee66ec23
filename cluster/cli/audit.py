"""plinth audit: the audit log (``audit_log``), and what a model gives away of what it was trained on."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cluster.cli import audit_log
from cluster.cli.output import Stages, console, print_facts, print_json, print_table
from cluster.cli.verbs import VERBS, Commands, add_group, add_verb
from cluster.core.entry import config_from
from cluster.core.errors import BadInputError, EnvironmentFaultError, ExitCode, UsageError
from cluster.core.home import Home
from cluster.core.storage import Store

DETAILS = """\
Verbatim rate: the share of documents whose first 32 tokens make the model write the next 16 exactly; of training
documents, against held-out ones. Exposure, of canaries that were planted before training: about 1 bit where nothing
was learnt by heart, at most 10. The report is an artefact (audits/MODEL); its numbers stand in the
model's card, and `plinth train gate` holds them against gate.max_verbatim where that is set.

  plinth audit canaries ~/canaries                       documents to add to the corpus, before training
  plinth audit memorization small --canaries ~/canaries/canaries.json"""


def register(commands: Commands) -> None:
    """Declare ``plinth audit`` with its verbs."""
    group = add_group(commands, "audit", VERBS["audit"].summary)
    audit_log.register(group)
    parser = add_verb(
        group,
        "memorization",
        memorization,
        "Whether a model repeats its training data: exposure, verbatim rate.",
        DETAILS,
    )
    parser.add_argument("model", help="NAME or NAME@VERSION of a model, else of a checkpoint")
    parser.add_argument("--dataset", default="", help="NAME or NAME@VERSION (default: the one it was trained on)")
    parser.add_argument("--canaries", type=Path, metavar="FILE", help="canaries.json of what was planted")
    parser.add_argument("--documents", type=int, default=200, help="most documents of each side (default 200)")
    parser = add_verb(
        group, "canaries", canaries, "Write documents with canaries, to be added to a corpus before training.",
        "Prepare the folder together with the corpus (it is a source of its own, or a folder below it).",
    )  # fmt: skip
    parser.add_argument("folder", type=Path, help="where to write them")
    parser.add_argument("--count", type=int, default=12, help="how many canaries (default 12)")
    parser.add_argument("--seed", type=int, default=0, help="the same seed writes the same canaries")


def memorization(args: argparse.Namespace) -> int:
    """Print exposure and verbatim rates, and publish the report; exit code 0.

    Raises:
        UsageError: fewer than one document.
        BadInputError: no such model, dataset or file of canaries.
    """
    from data_jobs.commands import find_dataset
    from train_jobs.evaluation.memorisation import read_canaries
    from train_jobs.evaluation.memorisation_run import audit_model

    if args.documents < 1:
        raise UsageError("--documents must be 1 or more")
    home, stages = Home.from_env(), Stages(show=not args.json)
    config, store = config_from(args, home), Store(home.store_uri)
    planted = read_canaries(_json(args.canaries)) if args.canaries else []
    dataset = find_dataset(store, args.dataset) if args.dataset else None
    with stages.run("audit"):
        made, report = audit_model(
            config, store, find_model(store, args.model), dataset, planted, args.documents, home.root / "cache", stages
        )
    if args.json:
        print_json({"version": made.version, "numbers": made.counts, **report})
    else:
        _print(report, f"{made.name}@{made.version}")
    return ExitCode.DONE


def canaries(args: argparse.Namespace) -> int:
    """Write the documents and ``canaries.json`` into a folder; exit code 0.

    Raises:
        UsageError: fewer than one canary.
        EnvironmentFaultError: the folder cannot be written.
    """
    from train_jobs.evaluation.memorisation import make_canaries, planted_documents

    if args.count < 1 or args.seed < 0:
        raise UsageError("--count must be 1 or more, --seed 0 or more")
    made = make_canaries(args.count, seed=args.seed)
    documents = planted_documents(made, args.seed)
    folder = args.folder.expanduser()
    try:
        (folder / "documents").mkdir(parents=True, exist_ok=True)
        for name, text in documents:
            (folder / "documents" / name).write_text(text, encoding="utf-8")
        (folder / "canaries.json").write_text(json.dumps([asdict(canary) for canary in made], indent=1))
    except OSError as error:
        raise EnvironmentFaultError(f"cannot write {folder}: {error.strerror}", path=str(folder)) from error
    if args.json:
        print_json({"folder": str(folder), "canaries": len(made), "documents": len(documents)})
    else:
        console.print(f"{len(documents)} documents with {len(made)} canaries: {folder / 'documents'}", soft_wrap=True)
        console.print(f"for the audit, not for the corpus: {folder / 'canaries.json'}", soft_wrap=True)
    return ExitCode.DONE


def find_model(store: Store, reference: str) -> Any:
    """The manifest of a model, or of a checkpoint where there is no such model.

    Raises:
        BadInputError: there is neither.
    """
    name, _, version = reference.partition("@")
    for kind in ("models", "checkpoints"):
        found = [made for made in store.versions(kind, name) if made.version.startswith(version)]
        if found:
            return found[-1]
    raise BadInputError(f"there is no model and no checkpoint {reference}: see `plinth models list`")


def _json(path: Path) -> Any:
    try:
        return json.loads(path.expanduser().read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadInputError(f"cannot read the canaries in {path}: {error}") from None


def _print(report: dict[str, Any], version: str) -> None:
    rows = [
        (side.replace("_", " "), f"{r['hits']}/{r['total']}", "-" if r["rate"] is None else f"{r['rate']:.3f}",
         f"{r['low']:.3f}-{r['high']:.3f}") for side, r in report["verbatim"].items() if side != "excess"
    ]  # fmt: skip
    columns = ("documents", "verbatim", "rate", "95 %")
    print_table(f"Verbatim continuations of {report['model']}", columns, rows, numeric=columns[1:])
    if "exposure" in report:
        by = [(times, f"{bits:.2f}") for times, bits in report["exposure_by_repeats"].items()]
        print_table("Exposure of canaries (bits)", ("planted times", "mean"), by, numeric=("planted times", "mean"))
        print_facts([("largest", f"{report['exposure']['max']:.2f} of {report['most_exposure']:.2f}")])
    console.print(f"report: audits/{version}")
