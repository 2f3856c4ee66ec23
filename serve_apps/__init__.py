"""The serving graph. Nothing but the CLI imports this folder."""

from cluster.core.code import PROCESS, source_hash
from cluster.core.records import stable_hash


def served_code(policies: str) -> str:
    """Hash of what a running service consists of beside its configuration: its code, and the file of policies that the
    configuration only names. A change of any of it is a new version.

    Args:
        policies: ``trust.policies``.

    Raises:
        UsageError: see ``load_policies``.
    """
    from serve_apps.guards.policy import load_policies

    code = source_hash("serve_apps.deploy", within=PROCESS)
    return stable_hash([code, load_policies(policies).file.model_dump_json()])[:16]
