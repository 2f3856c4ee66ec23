"""The serving graph. Nothing but the CLI imports this folder."""

from cluster.core.code import PROCESS, source_hash


def served_code() -> str:
    """Hash of the code that a running service consists of: a change of any of it is a new version."""
    return source_hash("serve_apps.deploy", within=PROCESS)
