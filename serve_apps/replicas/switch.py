"""Whether an external tier may be asked: a small file in the store for each, which its replicas follow while they run.

What cannot be read is off. There is no file until somebody uses the switch (`plinth models external`); till then the
configuration decides, which put the tier there.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from cluster.core.errors import PlinthError
from cluster.core.storage import Store
from cluster.core.storage.files import check_name, utc_now

FOLDER = "switches"


@dataclass(frozen=True)
class Switch:
    """Whether the tier may be asked, since when (ISO 8601; empty: since ever), and what was said of it."""

    on: bool = True
    at: str = ""
    why: str = ""


def read_switch(store: Store, tier: str) -> Switch:
    """How the switch of a tier stands; off where that cannot be read."""
    try:
        found = store.read_json(_path(store, tier))
        return Switch(found["on"] is True, str(found["at"]), str(found["why"]))
    except FileNotFoundError:
        return Switch()
    except (PlinthError, OSError) as error:
        return Switch(False, why=f"the switch cannot be read: {type(error).__name__}")
    except (ValueError, LookupError, TypeError):
        return Switch(False, why="the file of the switch is damaged: use it again")


def write_switch(store: Store, tier: str, on: bool, why: str = "") -> Switch:
    """Switch a tier on or off.

    Raises:
        UsageError: no usable name.
        EnvironmentFaultError: the store takes no file.
    """
    made = Switch(on, utc_now(), why)
    store.write(_path(store, tier), json.dumps(asdict(made)).encode())
    return made


def _path(store: Store, tier: str) -> str:
    return store.path(FOLDER, f"{check_name(tier)}.json")
