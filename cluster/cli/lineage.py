"""plinth lineage: what a version was made of, back to the raw files; which versions contain a document."""

from __future__ import annotations

import argparse
from typing import Any

from rich.markup import escape
from rich.tree import Tree

from cluster.cli.output import console, print_json, print_table
from cluster.cli.verbs import VERBS, Commands, add_verb
from cluster.core.errors import ExitCode, UsageError
from cluster.core.home import Home
from cluster.core.storage import Store

DETAILS = """\
An artefact is a dataset, index, tokenizer, checkpoint, set of examples or model: NAME@VERSION, the beginning of a
version, NAME@ALIAS or NAME; KIND/NAME@VERSION where a name is used for several kinds.

  plinth lineage main@live                   the index that answers, its dataset, its raw files with hashes
  plinth lineage models/small                the champion with checkpoint, examples, tokenizer, dataset
  plinth lineage --document shutil.copytree  every dataset, index and model that contains a document"""


def register(commands: Commands) -> None:
    """Declare ``plinth lineage``: an artefact, or a document."""
    parser = add_verb(commands, "lineage", lineage, VERBS["lineage"].summary, DETAILS)
    parser.add_argument("artefact", nargs="?", default="", help="NAME@VERSION, NAME@ALIAS, NAME or KIND/...")
    parser.add_argument("--document", default="", metavar="ID", help="list every version that contains this document")
    parser.add_argument("--files", type=int, default=20, metavar="N", help="most raw files to print (default 20)")


def lineage(args: argparse.Namespace) -> int:
    """Print what an artefact was made of as a tree, or every version a document is in; exit code 0.

    Raises:
        UsageError: not exactly one of an artefact and a document was named.
        BadInputError: there is no such artefact, or nothing contains the document.
    """
    from data_jobs.lineage.graph import Inventory, document_lineage, graph

    if bool(args.artefact) == bool(args.document):
        raise UsageError("name an artefact (NAME@VERSION) or a document (--document ID)")
    store = Store(Home.from_env().store_uri)
    catalogue = Inventory.read(store)
    if args.document:
        found = document_lineage(store, catalogue, args.document)
        print_json(found) if args.json else _print_document(found)
        return ExitCode.DONE
    made = graph(store, catalogue, catalogue.resolve(args.artefact))
    print_json(made) if args.json else console.print(_tree(made, args.files))
    return ExitCode.DONE


def _tree(made: dict[str, Any], most: int) -> Tree:
    seen: set[str] = set()

    def label(node: dict[str, Any], role: str) -> str:
        aliases = f" [green]{', '.join(node['aliases'])}[/green]" if node["aliases"] else ""
        about = [node["created_at"][:16].replace("T", " "), f"commit {node['commit']}" if node["commit"] else ""]
        about += [f"code {node['code']}" if node["code"] else "", "[red]gone[/red]" if node["missing"] else ""]
        name = f"[bold]{node['name']}@{node['version']}[/bold]"
        return f"{role}{node['kind']} {name}{aliases}  [dim]{'  '.join(filter(None, about))}[/dim]"

    def grow(node: dict[str, Any], role: str, tree: Tree | None) -> Tree:
        branch = tree.add(label(node, role)) if tree is not None else Tree(label(node, role))
        reference = f"{node['name']}@{node['version']}"
        if (node["kind"] + reference) in seen:
            branch.label = f"{branch.label} [dim](see above)[/dim]"
            return branch
        seen.add(node["kind"] + reference)
        for part, value in node["inputs"].items():
            if not value:  # as a dataset's warning where there was none
                continue
            if isinstance(value, str):
                branch.add(f"{part}: {escape(value)}")
            else:
                grow(value, f"{part}: ", branch)
        if node["kind"] == "datasets":
            _add_files(branch, made["files"].get(reference, []), most)
        return branch

    return grow(made["artefact"], "", None)


def _add_files(branch: Tree, files: list[dict[str, Any]], most: int) -> None:
    for file in files[:most]:
        digest = file["sha256"][:16] or "(no file of its own)"  # whole with --json
        held = f"{file['documents']:,} document{'' if file['documents'] == 1 else 's'}"
        branch.add(f"[cyan]{escape(file['path'])}[/cyan]  [dim]{digest}  {held}[/dim]")
    if len(files) > most:
        branch.add(f"[dim]… and {len(files) - most:,} more files (--files N, --json)[/dim]")


def _print_document(found: dict[str, Any]) -> None:
    console.print(f"[bold]{escape(found['document'])}[/bold]")
    rows = [
        (d["artefact"], ", ".join(d["aliases"]), d["how"], d["source"], d["file_sha256"][:16],
         "-".join(map(str, d["span"])), ", ".join(d["steps"])) if d["contains"]
        else (d["artefact"], ", ".join(d["aliases"]), f"left out: {d['reason']}", d["source"], "", "",
              f"for {d['kept']}" if d["kept"] else "")
        for d in found["datasets"]
    ]  # fmt: skip
    print_table("Datasets", ("dataset", "aliases", "as", "source", "file sha256", "bytes", "steps"), rows)
    for title, key in (("Indexes", "indexes"), ("Models", "models"), ("Made of these", "others")):
        lines = [(r["kind"], r["artefact"], ", ".join(r["aliases"]), r.get("chunks", "")) for r in found[key]]
        if lines:
            print_table(title, ("kind", "version", "aliases", "chunks"), lines, numeric=("chunks",))
