"""`plinth bench serve` of a model: the engine for real, the service as a fake at the HTTP border."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from cluster.cli.bench.token_load import Subject, measure_tokens, served_model
from cluster.cli.main import main
from cluster.core.config import PlinthConfig, configured
from cluster.core.errors import BadInputError, EnvironmentFaultError
from cluster.core.home import Home
from cluster.core.storage import Store
from cluster.processes import free_ports
from tests.serve_apps.engines.models import VOCAB, random_llama, train

pytestmark = pytest.mark.process
TOKENS = 24
SETTINGS = ["serve.model_defaults.threads=1", "serve.model_defaults.precision=f32"]


@pytest.fixture(scope="module")
def config() -> PlinthConfig:
    return configured(PlinthConfig(), SETTINGS)


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    from train_jobs.export.openvino_graph import export

    folder = tmp_path_factory.mktemp("subject")
    model = random_llama(folder)
    train(model, 20)
    model.save_pretrained(folder)
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {"<|pad|>": 0, "<|bos|>": 1, "<|eos|>": 2} | {letter: 3 + n for n, letter in enumerate(letters)}
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|eos|>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    export(folder, folder / "openvino")
    return Subject("mini", "0" * 12, folder, tokenizer, (2,), TOKENS)


class Service(BaseHTTPRequestHandler):
    """Streams ``max_tokens`` words and the usage, as the real one does; every third call of ``broken`` fails."""

    protocol_version = "HTTP/1.1"
    calls = 0
    prompts: list[str] = []  # noqa: RUF012 (one per test, set by the fixture)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        Service.calls += 1
        Service.prompts.append(body["prompt"])
        if body["model"] == "unknown":
            return self._answer(404, b"{}", "application/json")
        events: list[dict[str, Any]] = [{"choices": [{"text": "word "}]} for _ in range(3)]
        events.append({"choices": [], "usage": {"completion_tokens": body["max_tokens"]}})
        if body["model"] == "broken" and Service.calls % 3 == 0:
            events = [{"error": {"message": "the tier has gone"}}]
        text = "".join(f"data: {json.dumps(event)}\n\n" for event in events) + "data: [DONE]\n\n"
        return self._answer(200, text.encode(), "text/event-stream")

    def _answer(self, status: int, data: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args: object) -> None:
        """Quiet."""


@pytest.fixture
def service() -> Iterator[str]:
    Service.calls, Service.prompts = 0, []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Service)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_engine_and_service_do_the_same_work(config: PlinthConfig, subject: Subject, service: str) -> None:
    result = measure_tokens(config, subject, (1, 4), 8, service)
    assert (result["engine"], result["precision"], result["max_tokens"]) == ("openvino", "f32", TOKENS)
    assert [level["concurrency"] for level in result["levels"]] == [1, 4]
    for level in result["levels"]:
        for side in (level["direct"], level["http"]):
            assert (side["requests"], side["errors"]) == (8, 0)
            assert side["tokens_per_s"] > 0
            assert 0 < side["first_p50_ms"] <= side["first_p95_ms"]
        assert level["http"]["tokens"] == 8 * TOKENS
        assert level["ratio"] == pytest.approx(level["http"]["tokens_per_s"] / level["direct"]["tokens_per_s"])
        assert level["direct"]["tokens"] == 8 * TOKENS, "prompts were chosen whose continuations do not end early"
    assert len(set(Service.prompts)) > 8, "one prompt asked again and again measures a cache"


def test_errors_are_counted_not_hidden(config: PlinthConfig, subject: Subject, service: str) -> None:
    broken = Subject("broken", *list(vars(subject).values())[1:])
    (level,) = measure_tokens(config, broken, (2,), 9, service)["levels"]
    assert level["http"]["requests"] == 9
    assert level["http"]["errors"] == 3
    assert level["http"]["tokens"] == 6 * TOKENS


def test_no_service_and_another_model(config: PlinthConfig, subject: Subject, service: str) -> None:
    (port,) = free_ports(1)
    with pytest.raises(EnvironmentFaultError, match="plinth up"):
        measure_tokens(config, subject, (1,), 2, f"http://127.0.0.1:{port}")
    with pytest.raises(BadInputError, match="404"):
        measure_tokens(config, Subject("unknown", *list(vars(subject).values())[1:]), (1,), 2, service)


def test_engine_alone(config: PlinthConfig, subject: Subject) -> None:
    (level,) = measure_tokens(config, subject, (2,), None, None)["levels"]
    assert (level["direct"]["requests"], level["http"], level["ratio"]) == (16, None, None)


@pytest.mark.slow
@pytest.mark.ci
def test_a_registered_model_from_the_command_line(
    subject: Subject, home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = shutil.copytree(subject.folder, tmp_path / "source", ignore=shutil.ignore_patterns("openvino"))
    assert main(["models", "add", str(source), "--tier", "mini", "--license", "none", "--json"]) == 0
    version = json.loads(capsys.readouterr().out)["version"]
    found = served_model(Store(Home.from_env().store_uri), "mini", home / "cache", TOKENS)
    assert found is not None
    assert (found.version, found.stop_ids, len(found.ids("abc"))) == (version, (2,), 3)
    assert max(found.ids("an open file")) < VOCAB
    words = ["bench", "serve", "--model", "mini", "--direct", "--concurrency", "1,2", "--requests", "4", "--json"]
    assert main([*words, "--max-tokens", "8", *(part for item in SETTINGS for part in ("--set", item))]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["version"], result["max_tokens"], len(result["levels"])) == (version, 8, 2)


@pytest.mark.parametrize(
    "words",
    [
        ["--model", "quote", "--direct"],
        ["--concurrency", "1,x"],
        ["--concurrency", "0"],
        ["--requests", "0"],
        ["--max-tokens", "0"],
    ],
)
def test_usage(words: list[str], home: Path) -> None:
    assert main(["bench", "serve", *words]) == 2
