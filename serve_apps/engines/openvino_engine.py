"""OpenVINO GenAI's continuous batching behind the engine protocol: the fast engine on CPUs.

The pipeline runs in a process of its own (``openvino_process``); this side admits, forwards and keeps count. A request
is admitted only while the key/value blocks of all of them, at their longest, fit the cache. So the scheduler never has
to preempt one, or to drop it for want of memory (which it does without an error: status IGNORED).
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cluster.core.errors import BadInputError, IntegrityError
from serve_apps.engines.protocol import Capabilities
from serve_apps.engines.stream import Request
from serve_apps.engines.worker import EngineThread
from serve_apps.errors import UnavailableError

MODEL_FILE = "openvino_model.xml"
KV_BLOCK = 32  # tokens in one block of the CPU plugin's paged attention
CLOSE_S = 10.0
PROGRAM = "from serve_apps.engines.openvino_process import main; main()"
log = logging.getLogger(__name__)


def model_folder(folder: Path) -> Path | None:
    """The folder of the converted model: ``openvino`` below a published model, or the folder itself."""
    return next((path for path in (folder / "openvino", folder) if (path / MODEL_FILE).exists()), None)


class OpenVinoEngine(EngineThread):
    """Runs what ``train_jobs/export`` wrote.

    Args:
        folder: a published model, or a converted one.
        threads: CPU threads of the matrix products.
        precision: ``bf16`` (key/value cache in 8 bits; float32 products where the CPU has no bf16), or ``f32``, in
            which greedy tokens equal those of transformers.
        cache_mb: most memory of the key/value cache (MiB).
        concurrent: most requests worked on at once.
        batch_tokens: prompt and new tokens of one step together.
    """

    flush_s = 0.0  # the process has grouped the tokens already

    def __init__(
        self,
        folder: Path,
        threads: int = 2,
        precision: str = "bf16",
        cache_mb: int = 512,
        concurrent: int = 64,
        batch_tokens: int = 1024,
    ) -> None:
        super().__init__(f"openvino:{folder.name}")
        self.folder, self.threads, self.precision, self.cache_mb = folder, threads, precision, cache_mb
        self.concurrent, self.batch_tokens = concurrent, batch_tokens
        self._process: subprocess.Popen[bytes] | None = None
        self._reader: threading.Thread | None = None
        self._results: deque[list[Any] | None] = deque()  # None: the process has ended; guarded by _wake
        self._reserved: dict[int, int] = {}  # blocks of each admitted request
        self._blocks = 0

    @property
    def pid(self) -> int | None:
        """Of the process that holds the model."""
        return self._process.pid if self._process else None

    def _open(self) -> Capabilities:
        folder = model_folder(self.folder)
        if folder is None:
            raise BadInputError(f"{self.folder} holds no converted model ({MODEL_FILE}): publish the model again")
        config = _read_config(folder)
        block_bytes = _block_bytes(config, 4 if self.precision == "f32" else 1)
        context = int(config["max_position_embeddings"])
        self._blocks = min(self.cache_mb * (1 << 20) // block_bytes, self.concurrent * _blocks(context))
        if self._blocks < _blocks(context):
            context = max(1, (self._blocks - 1) * KV_BLOCK)
            log.warning("%s: a cache of %d MiB holds %d tokens only", self.name, self.cache_mb, context)
        settings = {
            "folder": str(folder), "threads": self.threads, "precision": self.precision, "blocks": self._blocks,
            "concurrent": self.concurrent, "batch_tokens": self.batch_tokens,
        }  # fmt: skip
        answer = self._spawn(settings)
        if "error" in answer:
            raise IntegrityError(f"OpenVINO cannot load {folder}: {answer['error']}", path=str(folder))
        return Capabilities(
            engine="openvino", precision=answer["precision"], context_tokens=context,
            vocab=int(config["vocab_size"]), concurrent=self.concurrent,
        )  # fmt: skip

    def _spawn(self, settings: dict[str, Any]) -> dict[str, Any]:
        environ = {**os.environ, "PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path))}
        self._process = subprocess.Popen(  # noqa: S603 (this Python, a fixed program)
            [sys.executable, "-c", PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environ
        )
        self._send(settings)
        first = self._process.stdout.readline() if self._process.stdout else b""
        if not first:
            raise self._died()
        answer: dict[str, Any] = json.loads(first)
        self._reader = threading.Thread(target=self._read, name=f"reader-{self.name}", daemon=True)
        self._reader.start()
        return answer

    def _read(self) -> None:
        """On a thread of its own: results become work for the engine's thread."""
        if self._process is None or self._process.stdout is None:
            return
        for line in self._process.stdout:
            results = json.loads(line)
            with self._wake:
                self._results.append(results)
                self._wake.notify()
        with self._wake:
            self._results.append(None)
            self._wake.notify()

    def _send(self, value: Any) -> None:
        if self._process is None or self._process.stdin is None:
            raise UnavailableError(f"engine {self.name} has no process")
        try:
            self._process.stdin.write(json.dumps(value).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._died() from None

    def _died(self) -> UnavailableError:
        code = self._process.wait(CLOSE_S) if self._process else None
        return UnavailableError(f"the process of engine {self.name} has ended with exit code {code}")

    # -- the engine's thread -----------------------------------------------------------------------------------------
    def _admit(self, request: Request) -> bool:
        blocks = _blocks(len(request.ids) + request.sampling.max_new_tokens)
        if len(self._reserved) >= self.concurrent or sum(self._reserved.values()) + blocks > self._blocks:
            return False
        self._reserved[request.number] = blocks
        sampling = asdict(request.sampling) | {"greedy": request.sampling.greedy, "seed": request.sampling.seed63}
        self._send(["add", request.number, request.ids, sampling])
        return True

    def _ready(self) -> bool:
        return bool(self._results)

    def _step(self, running: Sequence[Request]) -> None:
        with self._wake:
            arrived = list(self._results)
            self._results.clear()
        requests = {request.number: request for request in running}
        for results in arrived:
            if results is None:
                raise self._died()
            for number, ids, dropped in results:
                request = requests.get(number)  # gone: it was cancelled while the tokens were on their way
                if request is not None:
                    request.emit(ids)
                    if dropped:
                        request.error = UnavailableError(f"engine {self.name} dropped a request: {dropped}")

    def _drop(self, request: Request) -> None:
        del self._reserved[request.number]
        if not request.over:
            self._send(["cancel", request.number])

    def _close(self) -> None:
        process, self._process = self._process, None
        if process is None or process.stdin is None or process.stdout is None:
            return
        try:
            process.stdin.close()  # the process ends with its input
            process.wait(CLOSE_S)
        except BrokenPipeError:
            process.wait(CLOSE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if self._reader is not None:
            self._reader.join()
        process.stdout.close()

    def _cache_usage(self) -> float:
        return sum(tuple(self._reserved.values())) / self._blocks if self._blocks else 0.0


def _blocks(tokens: int) -> int:
    return -(-tokens // KV_BLOCK) + 1


def _block_bytes(config: dict[str, Any], width: int) -> int:
    """Keys and values of one block in all layers; 8-bit caches keep a scale and a zero point per head and token."""
    heads = int(config["num_attention_heads"])
    head = int(config.get("head_dim") or int(config["hidden_size"]) // heads)
    row = head * width + (8 if width == 1 else 0)
    return 2 * int(config["num_hidden_layers"]) * int(config.get("num_key_value_heads") or heads) * KV_BLOCK * row


def _read_config(folder: Path) -> dict[str, Any]:
    try:
        config: dict[str, Any] = json.loads((folder / "config.json").read_text())
        for key in ("vocab_size", "max_position_embeddings", "num_attention_heads", "hidden_size", "num_hidden_layers"):
            int(config[key])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInputError(f"{folder}/config.json is no configuration of a decoder: {error!r}") from error
    return config
