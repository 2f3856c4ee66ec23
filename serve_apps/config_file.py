"""What a Serve configuration file deploys: with ``serve deploy serve_apps/serve-config.yaml`` the graph of `plinth up`.

The file names ``serve_apps.config_file:app`` and its arguments; Serve checks them and calls it inside the cluster.
No ``from __future__ import annotations`` here: Serve reads the class of the argument from the function's signature.
"""

from typing import Any

from pydantic import BaseModel, ConfigDict

from actors.registry.models import Registry
from cluster.core.config import PlinthConfig
from cluster.core.home import Home
from cluster.core.presets import preset
from cluster.core.storage import Store


class AppArguments(BaseModel):
    """Arguments of the application in a Serve configuration file; unknown ones are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    preset: str = "laptop"
    """Configuration to start from: laptop, node or cluster."""
    overrides: tuple[str, ...] = ()
    """``section.field=value``, as after ``--set``."""
    models: tuple[str, ...] | None = None
    """Registered models that are tiers beside those of `serve.tiers`; left out: every one, and the one this
    configuration trains."""


def app(arguments: AppArguments) -> Any:
    """The bound graph (a Serve application), as `plinth up` deploys it.

    Raises:
        UsageError: unknown preset or override; Serve shows it as the application's message (DEPLOY_FAILED), and what
            was deployed before goes on.
    """
    from serve_apps.deploy import build_app

    config = preset(arguments.preset, arguments.overrides)
    models = arguments.models
    if models is None:
        models = tuple(model_tiers(config, Store(Home.from_env().store_uri)))
    return build_app(config, models)


def model_tiers(config: PlinthConfig, store: Store) -> list[str]:
    """The registered models that are tiers: every one, and the one this configuration trains. What each of them gets is
    in ``serve.tiers`` or ``serve.model_defaults``."""
    return sorted({config.train.name, *Registry(store).names()})
