"""plinth policies: which guard may do what, for which tenant and collection; and whether a file of policies is one."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cluster.cli.output import console, print_json, print_table, printable
from cluster.cli.verbs import VERBS, Commands, add_group, add_verb
from cluster.core.config import PlinthConfig
from cluster.core.entry import config_from
from cluster.core.errors import BadInputError, ExitCode
from cluster.core.home import Home
from cluster.core.storage import Store

if TYPE_CHECKING:
    from data_jobs.safety.head import SafetyHead
    from serve_apps.guards.policy import Policy

SHOW = """\
They are those of trust.policies, or those that are shipped where that is empty. All that fit a request hold; where two
say something about the same, the later one does. A head of the classifier that was told `earned` blocks only where its
card says that it reached its bar.

  plinth policies show --tenant finance --collection contracts    what holds there"""
CHECK = """\
Names the line and the field of all that is wrong with a file; exit code 3. Nothing has to run.

  plinth policies check policies.yaml && plinth up --set trust.policies=policies.yaml"""


def register(commands: Commands) -> None:
    """Declare ``plinth policies`` with its verbs."""
    group = add_group(commands, "policies", VERBS["policies"].summary)
    parser = add_verb(group, "show", show, "Print the policies in force.", SHOW)
    parser.add_argument("--tenant", default="", help="only what holds for this tenant")
    parser.add_argument("--collection", default="", help="only what holds in this collection")
    parser = add_verb(group, "check", check, "Check a file of policies.", CHECK)
    parser.add_argument("file", help="the YAML file")


def show(args: argparse.Namespace) -> int:
    """Print what each policy says, one thing a line; exit code 0.

    Raises:
        UsageError: trust.policies names no file of policies.
    """
    from data_jobs.safety.in_force import in_force
    from serve_apps.guards.policy import load_policies

    home = Home.from_env()
    config = config_from(args, home)
    file = load_policies(config.trust.policies).file
    head = in_force(Store(home.store_uri)).head
    rows = [
        row for policy in file.policies if _asked(policy, args.tenant, args.collection)
        for row in rules_of(policy, config, head)
    ]  # fmt: skip
    where = config.trust.policies or "as shipped"
    if args.json:
        print_json({"version": file.version, "file": where, "policies": rows})
        return ExitCode.DONE
    columns = ("policy", "tenants", "collections", "guard", "about", "action", "from")
    table = [
        (row["policy"], _whom(row["tenants"]), _whom(row["collections"]), row["guard"], row["about"],
         _told(row), _from(row)) for row in rows
    ]  # fmt: skip
    print_table(f"Policies, version {file.version} ({where})", columns, table)
    return ExitCode.DONE


def check(args: argparse.Namespace) -> int:
    """Print what is wrong with a file; exit code 0, or 3 where something is.

    Raises:
        BadInputError: it cannot be read.
    """
    from serve_apps.guards.policy import PolicyFile, policy_bytes, read_policies

    path = Path(args.file).expanduser()
    try:
        body = policy_bytes(path)
    except OSError as error:
        raise BadInputError(f"cannot read {path}: {error.strerror}") from error
    found = read_policies(body.decode("utf-8", errors="replace"))
    fine = isinstance(found, PolicyFile)
    problems = [] if isinstance(found, PolicyFile) else found
    if args.json:
        rows = [{"line": one.line or None, "field": one.field, "message": one.message} for one in problems]
        print_json({"file": str(path), "fine": fine, "problems": rows})
    elif isinstance(found, PolicyFile):
        count = len(found.policies)
        many = f"{count} {'policy' if count == 1 else 'policies'}"
        console.print(f"{path.name}: {many}, version {found.version}", markup=False)
    for one in [] if args.json else problems:
        console.print(printable(one.told(path.name)), soft_wrap=True, markup=False)
    return ExitCode.DONE if fine else ExitCode.BAD_INPUT


def rules_of(policy: Policy, config: PlinthConfig, head: SafetyHead) -> list[dict[str, Any]]:
    """What a policy says, a row each: about what, which guard does what, from which score on, and whether that guard
    is among ``serve.guards`` at all."""
    said: list[tuple[str, str, str, float | None]] = []
    said += [("rules", about, action, None) for about, action in policy.rules.items()]
    for about, one in policy.classifier.items():
        if about not in head.heads:  # heads of another data set may be fewer
            said.append(("classifier", about, "off", None))
            continue
        action = head.action(about) if one.action == "earned" else one.action
        said.append(("classifier", about, action, max(one.threshold or float("-inf"), head.heads[about].threshold)))
    if policy.personal_data:
        said.append(("personal_data", "personal data", policy.personal_data, None))
    said += [("rules", f"{about}, in what goes out", action, None) for about, action in policy.output.items()]
    if policy.forbidden:
        said.append(("policy", f"{len(policy.forbidden)} forbidden texts, in what goes out", "block", None))
    return [
        {
            "policy": policy.name, "tenants": list(policy.tenants), "collections": list(policy.collections),
            "guard": guard, "about": about, "action": action, "threshold": threshold,
            "on": guard == "policy" or guard in config.serve.guards,
        }
        for guard, about, action, threshold in said
    ]  # fmt: skip


def _asked(policy: Policy, tenant: str, collection: str) -> bool:
    return (not tenant or not policy.tenants or tenant in policy.tenants) and (
        not collection or not policy.collections or collection in policy.collections
    )


def _whom(names: list[str]) -> str:
    return ", ".join(names) or "all"


def _told(row: dict[str, Any]) -> str:
    return f"{row['action']}" if row["on"] else f"{row['action']} (guard not in serve.guards)"


def _from(row: dict[str, Any]) -> str:
    return "-" if row["threshold"] is None else f"{row['threshold']:.2f}"
