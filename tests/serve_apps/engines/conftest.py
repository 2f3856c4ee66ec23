"""One trained model for the session, converted once, and a started engine of each kind."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from serve_apps.engines.openvino_engine import OpenVinoEngine
from serve_apps.engines.protocol import Engine
from serve_apps.engines.transformers_engine import TransformersEngine
from serve_apps.engines.vllm_engine import VllmEngine
from tests.serve_apps.engines.models import random_llama, train
from tests.serve_apps.engines.openai_server import OverHttp, served
from tests.serve_apps.engines.vllm_library import library
from train_jobs.export.openvino_graph import export


@dataclass
class Published:
    """A folder as a published model has it, and the model in memory."""

    folder: Path
    model: Any


LOCAL = ("openvino", "transformers", "vllm")  # engines that run a model here, in ids of tokens
SERVERS = ExitStack()
URLS: dict[Path, str] = {}


def engine_of(kind: str, folder: Path) -> Engine:
    """An engine over the model in a folder; for `openai` that is what transformers serves over HTTP."""
    if kind == "openai":
        if folder not in URLS:
            URLS[folder] = SERVERS.enter_context(served(TransformersEngine(folder, 1)))
        return OverHttp(URLS[folder])
    if kind == "vllm":
        return VllmEngine(folder, "f32", library=library)
    return OpenVinoEngine(folder, threads=1, precision="f32") if kind == "openvino" else TransformersEngine(folder, 1)


@pytest.fixture(scope="session", autouse=True)
def _servers_end() -> Iterator[None]:
    yield
    URLS.clear()
    SERVERS.close()


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory) -> Published:
    folder = tmp_path_factory.mktemp("published")
    model = random_llama(folder)
    loss = train(model)
    assert loss < 1.0, "the model has learnt nothing, so its choices mean nothing"
    model.save_pretrained(folder)
    export(folder, folder / "openvino")
    return Published(folder, model)


@pytest.fixture(params=[*LOCAL, "openai"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def fresh(kind: str, published: Published) -> Iterator[Engine]:
    """An engine of the test's own, started."""
    engine = engine_of(kind, published.folder)
    engine.start()
    yield engine
    engine.stop()


class Started(dict[str, Engine]):
    """Engines by kind, each started when it is first asked for."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder

    def __missing__(self, kind: str) -> Engine:
        engine = self[kind] = engine_of(kind, self._folder)
        engine.start()
        return engine


@pytest.fixture(scope="session")
def engines(published: Published) -> Iterator[dict[str, Engine]]:
    running = Started(published.folder)
    yield running
    for engine in running.values():
        engine.stop()


@pytest.fixture
def engine(kind: str, engines: dict[str, Engine]) -> Engine:
    """The session's engine of a kind, for tests that leave it as it was."""
    return engines[kind]
