"""plinth edge: a model as a folder that answers on a machine of its own, without a cluster and without a network."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from cluster.cli.output import Stages, console, human_bytes, print_json, print_table
from cluster.cli.verbs import VERBS, Commands, add_group, add_verb
from cluster.core.errors import ExitCode, UnsupportedError
from cluster.core.home import Home
from cluster.core.storage import Store


def register(commands: Commands) -> None:
    """Declare ``plinth edge`` with its verbs."""
    group = add_group(commands, "edge", VERBS["edge"].summary)
    parser = add_verb(
        group, "export", export, "Write a model as a folder in 8 bits, and measure what that costs.",
        "The folder needs OpenVINO and nothing of this project's service: copy it where it is to answer.\n\n"
        "  plinth edge export smollm2 --output ~/edge\n"
        '  plinth edge run ~/edge "Why is the sky blue?"',
    )  # fmt: skip
    parser.add_argument("model", help="a registered model, a checkpoint, a folder, `smollm2`, or a hub's id")
    parser.add_argument("--output", metavar="DIR", type=Path, required=True, help="a new or empty folder")
    parser = add_verb(
        group, "run", run, "Answer a question from such a folder: no cluster, no network.",
        "Every file is checked against the hash it was exported with.",
    )  # fmt: skip
    parser.add_argument("path", metavar="PATH", type=Path, help="folder that `plinth edge export` wrote")
    parser.add_argument("question")
    parser.add_argument("--tokens", type=int, default=128, help="most tokens of the answer (default 128)")


def export(args: argparse.Namespace) -> int:
    """Print sizes and agreement with the model in float32; exit code 0.

    Raises:
        UnsupportedError: an architecture the converter does not know, or a model that only points at sentences.
        BadInputError: no such model, or the folder is not empty.
        PolicyRefusedError: not everybody may read what it was trained on.
    """
    from data_jobs.governance.policies import refused
    from data_jobs.lineage.labels import labels_behind
    from train_jobs.export.edge import export_edge
    from train_jobs.publishing.sources import model_of

    store, stages = Store(Home.from_env().store_uri), Stages(show=not args.json)
    with stages.run(f"export {args.model}"), model_of(store, args.model) as (folder, origin):
        if labels := labels_behind(store, origin):
            raise refused(
                "access", f"{args.model}: it learnt from documents with access labels "
                f"({', '.join(filter(None, labels['access']))}), and there everybody could ask it"
            )  # fmt: skip
        if _needs_passages(store, origin):
            raise UnsupportedError(
                f"{args.model} answers from the sentences of retrieved passages only: it has nothing to say alone"
            )
        facts = export_edge(folder.path, args.output.expanduser(), origin, stages)
    size = sum(path.stat().st_size for path in args.output.expanduser().iterdir())
    if args.json:
        print_json({**facts, "bytes": size, "path": str(args.output)})
        return ExitCode.DONE
    agreed = facts["agreement"]
    rows = [
        ("size", human_bytes(size)), ("size of the model", human_bytes(facts["original_bytes"])),
        ("same next token as the model", f"{agreed['same']} of {agreed['tokens']}"),
    ]  # fmt: skip
    print_table(f"Exported to {args.output}", ("", "value"), rows, numeric=("value",))
    return ExitCode.DONE


def run(args: argparse.Namespace) -> int:
    """Print the answer, and what it took; exit code 0.

    Raises:
        BadInputError: no exported folder, or a question that does not fit. IntegrityError: a file was changed.
    """
    from train_jobs.export.edge import EdgeModel

    found = EdgeModel(args.path.expanduser()).answer(args.question, args.tokens)
    if args.json:
        print_json(found)
        return ExitCode.DONE
    console.print(found["text"], markup=False)
    print_table("", ("", "value"), _rows(found), numeric=("value",))
    return ExitCode.DONE


def _rows(found: dict[str, Any]) -> list[tuple[str, str]]:
    agreed = found["agreement"] or {}
    said = f"{agreed['same']} of {agreed['tokens']}" if agreed else "-"
    return [
        ("size", human_bytes(found["bytes"])), ("memory (RSS)", human_bytes(found["rss_bytes"])),
        ("first token", f"{found['first_token_s']} s"), ("a token, median", f"{found['token_ms_p50']} ms"),
        ("tokens", str(found["tokens"])), ("same next token as the model", said),
    ]  # fmt: skip


def _needs_passages(store: Store, origin: dict[str, str]) -> bool:
    """Whether a model, or a checkpoint that would become one, points at passages, or writes only what is checked
    against them."""
    files = {
        "model": ("plinth.json", "format", ("points", "grounded")),
        "checkpoint": ("training.json", "stage", ("finetune",)),
    }
    for part, (file, key, values) in files.items():
        if part in origin:
            name, _, version = origin[part].partition("@")
            path = f"{store.artefact(store.manifest(f'{part}s', name, version))}/{file}"
            return store.exists(path) and store.read_json(path).get(key) in values
    return False
