"""mlflow's client, kept quiet, and a database server that holds the mirror for people on other machines.

A server's database belongs to one store: its address is written into it, and another store's mirror is refused. What
other tools keep there (runs of other experiments, models of other names) is left alone.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from cluster.core.errors import EnvironmentFaultError, IncompatibleError, PlinthError

if TYPE_CHECKING:
    from mlflow import MlflowClient

# Read by mlflow when it is imported. No pool: a database that is replaced must be opened again.
SWITCHES = {
    "MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true", "MLFLOW_CONFIGURE_LOGGING": "false",
    "MLFLOW_SQLALCHEMYSTORE_POOLCLASS": "NullPool", "GIT_PYTHON_REFRESH": "quiet",
}  # fmt: skip
EXPERIMENTS = "plinth/"  # what the names of the mirror's experiments begin with
BOOKS = f"{EXPERIMENTS}books"  # no run is in it: its tags say whose the database is and how it was left
OURS = "Mirror of the Plinth registry; the store is the truth."
STORE, MARK = "plinth.store", "plinth.mark"


class Server:
    """The mirror's database on a server.

    Args:
        uri: as SQLAlchemy writes it, without a password (that is in ``~/.pgpass``, or in PGPASSWORD).
        store_uri: of the store that it mirrors.
    """

    def __init__(self, uri: str, store_uri: str) -> None:
        self.uri, self._store_uri = with_driver(uri), store_uri

    def mark(self) -> str:
        """What the last writer left; empty in a database without a mirror.

        Raises:
            EnvironmentFaultError: the server does not answer.
            IncompatibleError: the database mirrors another store.
        """
        with mlflow_errors(self.uri):
            self._reach()
            books = client_of(self.uri).get_experiment_by_name(BOOKS)
        if books is None:
            return ""
        owner = books.tags.get(STORE, "")
        if owner != self._store_uri:
            raise IncompatibleError(
                f"the database of cluster.tracking_uri holds the mirror of the store {owner or '(none)'}, not of "
                f"{self._store_uri}: give each store a database of its own"
            )
        return str(books.tags.get(MARK, ""))

    def _reach(self) -> None:
        """Connect once: mlflow itself tries again and again for minutes."""
        from sqlalchemy import create_engine
        from sqlalchemy.pool import NullPool

        create_engine(self.uri, poolclass=NullPool).connect().close()

    def leave_mark(self) -> str:
        """Write a new mark and return it."""
        mark = secrets.token_hex(8)
        with mlflow_errors(self.uri):
            client = client_of(self.uri)
            books = client.get_experiment_by_name(BOOKS)
            tags = {STORE: self._store_uri}
            number = client.create_experiment(BOOKS, tags=tags) if books is None else books.experiment_id
            client.set_experiment_tag(number, MARK, mark)
        return mark

    def clear(self) -> None:
        """Take the mirror's runs (mlflow keeps them as deleted) and models out of the database.

        Raises:
            IncompatibleError: it mirrors another store.
        """
        self.mark()
        with mlflow_errors(self.uri):
            client = client_of(self.uri)
            mine = [e.experiment_id for e in client.search_experiments() if e.name.startswith(EXPERIMENTS)]
            while runs := client.search_runs(mine, max_results=1000) if mine else []:
                for run in runs:
                    client.delete_run(run.info.run_id)
            for model in client.search_registered_models(max_results=1000):
                if model.description == OURS:
                    client.delete_registered_model(model.name)


def tracking_uri(home: Path) -> str:
    """``cluster.tracking_uri`` of the configuration that the node of ``home`` was started with; empty for none."""
    path = home / "run" / "config.json"
    if not path.exists():
        return ""
    return str(json.loads(path.read_text()).get("cluster", {}).get("tracking_uri", ""))


def with_driver(uri: str) -> str:
    """The address with the driver that is installed: psycopg 3, which SQLAlchemy takes only when it is named."""
    scheme, rest = uri.split("://", 1)
    return f"postgresql+psycopg://{rest}" if scheme in ("postgres", "postgresql") else uri


def prepare_mlflow() -> None:
    """Before mlflow is imported: no telemetry, no network, nothing on the terminal."""
    os.environ.update(SWITCHES)
    warnings.filterwarnings("ignore", module="mlflow|alembic|sqlalchemy")
    for name in ("mlflow", "alembic", "sqlalchemy"):
        logging.getLogger(name).setLevel(logging.ERROR)


def client_of(uri: str) -> MlflowClient:
    """mlflow's client of a database."""
    prepare_mlflow()
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=uri, registry_uri=uri)


@contextmanager
def mlflow_errors(uri: str) -> Iterator[None]:
    """What mlflow and its database raise, as errors of ours.

    Raises:
        EnvironmentFaultError: a server that does not answer, or the driver is not installed.
        PlinthError: anything else.
    """
    prepare_mlflow()
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import OperationalError, SQLAlchemyError

    try:
        yield
    except OperationalError as error:
        raise EnvironmentFaultError(f"the database {uri} does not answer: {error.orig}") from error
    except ModuleNotFoundError as error:
        raise EnvironmentFaultError(
            f"the database {uri} needs the package {error.name}: pip install 'plinth[postgres]'"
        ) from error
    except (MlflowException, SQLAlchemyError) as error:
        raise PlinthError(f"the mlflow mirror {uri} could not be written: {error}") from error
