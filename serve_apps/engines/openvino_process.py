"""The process in which OpenVINO GenAI's pipeline runs, and the lines of JSON it speaks with its engine.

A process and not only a thread, because ``ContinuousBatchingPipeline.step`` keeps Python's interpreter lock for as long
as it computes (measured: 0.98 s for 2,000 prompt tokens of a 75M model, nothing else ran): the event loop, and with it
every health check and every other stream, would stand still. A crash in native code ends this process only.

In:  first the settings; then ``["add", number, ids, sampling]`` and ``["cancel", number]``; its end ends the process.
Out: first ``{"precision"}`` or ``{"error"}``; then lists of ``[number, new ids, "" or why it was dropped]``.
"""

from __future__ import annotations

import json
import os
import select
import signal
import time
from collections import deque
from typing import Any

# Tokens travel in groups (see stream.FLUSH_S), first and last ones at once: every request gets a delta each 20 ms, and
# more seldom where many run, so that one engine makes no more than 400 deltas a second for the tier and the gateway.
FLUSH_S = 0.02
FLUSH_S_PER_REQUEST = 0.0025


class Lines:
    """JSON values, one a line, over two file descriptors; never waits for input while there is work."""

    def __init__(self, source: int, sink: int) -> None:
        self.source, self.sink = source, sink
        self._rest = b""
        self.ended = False

    def read(self, wait: bool) -> list[Any]:
        """What has arrived; with ``wait`` blocks until something has, or the other side is gone."""
        found: list[Any] = []
        while not self.ended and not found and (wait or select.select([self.source], [], [], 0)[0]):
            data = os.read(self.source, 1 << 16)
            self.ended = not data
            *lines, self._rest = (self._rest + data).split(b"\n")
            found = [json.loads(line) for line in lines]
        return found

    def write(self, value: Any) -> None:
        """Send one value as a line of JSON; blocks while the pipe is full."""
        data = memoryview(json.dumps(value).encode() + b"\n")
        while data:
            data = data[os.write(self.sink, data) :]


class Pipeline:
    """The step loop around one ContinuousBatchingPipeline."""

    def __init__(self, settings: dict[str, Any]) -> None:
        import openvino
        from openvino_genai import ContinuousBatchingPipeline, SchedulerConfig

        exact = settings["precision"] == "f32"
        bf16 = not exact and "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        self.precision = "bf16" if bf16 else "f32"
        scheduler = SchedulerConfig()
        scheduler.num_kv_blocks = settings["blocks"]
        scheduler.max_num_seqs = settings["concurrent"]
        scheduler.max_num_batched_tokens = settings["batch_tokens"]
        # Prefix caching (2026.4.1) yields wrong tokens where running requests share the beginning of a block: a prompt
        # that begins like another one continued as if it were that other one. Found by the test of growing prompts.
        scheduler.enable_prefix_caching = False
        properties: dict[str, Any] = {
            "INFERENCE_PRECISION_HINT": self.precision,
            "INFERENCE_NUM_THREADS": settings["threads"],
            "ENABLE_CPU_PINNING": False,  # two replicas would pin their threads to the same cores
        }
        if exact:
            properties["KV_CACHE_PRECISION"] = "f32"  # 8 bits otherwise
        self.pipeline = ContinuousBatchingPipeline(settings["folder"], scheduler, "CPU", properties)
        self.handles: dict[int, Any] = {}
        self.commands: deque[Any] = deque()
        self.unsent: dict[int, list[Any]] = {}
        self.silent: set[int] = set()  # requests that have not had a token yet
        self.sent_at = 0.0

    def serve(self, lines: Lines) -> None:
        """Until the other side closes its end."""
        while True:
            self.commands.extend(lines.read(wait=not self.handles and not self.commands))
            if lines.ended:
                return self._end()
            self._obey()
            if not self.pipeline.has_non_finished_requests():
                continue
            self.pipeline.step()
            urgent = self._collect()
            pause = max(FLUSH_S, FLUSH_S_PER_REQUEST * len(self.handles))
            if self.unsent and (urgent or time.monotonic() - self.sent_at >= pause):
                lines.write(list(self.unsent.values()))
                self.unsent, self.sent_at = {}, time.monotonic()

    def _end(self) -> None:
        """Free what still runs, or the pipeline complains of leaks when it goes."""
        for handle in self.handles.values():
            handle.cancel()
        if self.pipeline.has_non_finished_requests():
            self.pipeline.step()

    def _obey(self) -> None:
        """Carry out commands, but add nothing between a cancellation and the step that frees its blocks."""
        import numpy as np
        import openvino

        cancelled = False
        while self.commands and not (cancelled and self.commands[0][0] == "add"):
            verb, number, *details = self.commands.popleft()
            if verb == "cancel":
                handle = self.handles.pop(number, None)
                self.unsent.pop(number, None)
                self.silent.discard(number)
                if handle is not None:
                    handle.cancel()
                    cancelled = True
            else:
                ids, sampling = details
                tensor = openvino.Tensor(np.array([ids], dtype=np.int64))
                # The handle must be kept: without one the pipeline generates nothing.
                self.silent.add(number)
                self.handles[number] = self.pipeline.add_request(number, tensor, generation_config(sampling))

    def _collect(self) -> bool:
        """Take the new tokens of every request; whether any of them is a first or a last one."""
        urgent = False
        for number, handle in list(self.handles.items()):
            status = handle.get_status().name
            ids: list[int] = []
            while handle.can_read():
                for output in handle.read().values():
                    ids.extend(output.generated_ids)
            if ids:
                self.unsent.setdefault(number, [number, [], ""])[1].extend(ids)
                urgent = urgent or number in self.silent
                self.silent.discard(number)
            if status != "RUNNING":
                del self.handles[number]
                self.silent.discard(number)
                urgent = True
                if status != "FINISHED":  # IGNORED: it did not fit the cache
                    self.unsent.setdefault(number, [number, [], ""])[2] = status
        return urgent


def generation_config(sampling: dict[str, Any]) -> Any:
    """GenAI's settings for one request; the seed counts per request."""
    from openvino_genai import GenerationConfig

    config = GenerationConfig()
    config.max_new_tokens = sampling["max_new_tokens"]
    if sampling["stop_ids"]:
        config.eos_token_id = min(sampling["stop_ids"])
        config.stop_token_ids = set(sampling["stop_ids"])
    else:
        # Not obeyed; but where none is given the pipeline takes the model's own, and refuses models that have none.
        config.set_eos_token_id(0)
        config.ignore_eos = True
    config.do_sample = not sampling["greedy"]
    if config.do_sample:
        config.temperature, config.top_p = sampling["temperature"], sampling["top_p"]
        config.rng_seed = sampling["seed"]
    return config


def main() -> None:
    """Speak over standard input and output; whatever libraries print goes to standard error."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the engine's business; this end follows its pipe
    sink = os.dup(1)
    os.dup2(2, 1)
    lines = Lines(0, sink)
    settings = lines.read(wait=True)
    if not settings:
        return
    try:
        pipeline = Pipeline(settings[0])
    except RuntimeError as error:
        lines.write({"error": str(error)})
        return
    lines.write({"precision": pipeline.precision})
    try:
        pipeline.serve(lines)
    except BrokenPipeError:
        return
