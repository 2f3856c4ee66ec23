"""Two versions of the project embed the same texts, in turns, in one run: what a MB costs each, and the ratio.

Each version is a process of its own with its own packages, one thread, started and warm before anything is timed. They
take every batch of texts one after the other, in changing order, so that what else the machine does meets both alike.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryFile
from types import TracebackType
from typing import Any, Self

from cluster.core.errors import BadInputError, EnvironmentFaultError
from data_jobs.benchmarks import embed_checkout

SEED = 7
BATCH_BYTES = 20_000  # old versions need some seconds for so much
TEXT_CHARS = 10_000  # of a longer text the beginning is taken: many texts, not one
STOP_S = 10.0


def compare(
    texts: Sequence[str],
    here: Path,
    against: Path,
    mb: float,
    settings: dict[str, Any],
    on_batch: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Embed about ``mb`` million bytes of the texts, seeded picks, with the code in both folders.

    Args:
        here, against: checkouts; ``.venv/bin/python`` of one is its interpreter, else this one is.
        settings: fields of ``index`` that both get, as far as they know them.
        on_batch: told (batches done, their number).

    Returns:
        ``here`` and ``against``: seconds and processor seconds a MB, chunks, vectors, precision; ``times_faster``: the
        ratio of processor seconds and of seconds, and the lowest and highest of a batch (processor seconds).

    Raises:
        BadInputError: there is no text.
        EnvironmentFaultError: the code of a folder does not run.
    """
    batches = _batches(texts, mb)
    size = sum(len(text.encode()) for batch in batches for text in batch) / 1e6
    took: dict[str, list[dict[str, Any]]] = {"here": [], "against": []}
    with ExitStack() as stack:
        sides = {
            name: stack.enter_context(_Side(root, settings)) for name, root in (("here", here), ("against", against))
        }
        if on_batch:
            on_batch(0, len(batches))
        for number, batch in enumerate(batches):
            for name in ("against", "here") if number % 2 else ("here", "against"):
                took[name].append(sides[name].embed(batch))
            if on_batch:
                on_batch(number + 1, len(batches))
        about = {name: side.about for name, side in sides.items()}
    sums = {
        name: {key: sum(row[key] for row in rows) for key in ("seconds", "cpu_seconds", "chunks", "vectors")}
        for name, rows in took.items()
    }
    each = [a["cpu_seconds"] / h["cpu_seconds"] for h, a in zip(took["here"], took["against"], strict=True)]
    return {
        "mb": round(size, 3), "texts": sum(map(len, batches)), "batches": len(batches),
        **{name: _a_mb(sums[name], about[name], size) for name in took},
        "times_faster": {
            "cpu_seconds": round(sums["against"]["cpu_seconds"] / sums["here"]["cpu_seconds"], 2),
            "seconds": round(sums["against"]["seconds"] / sums["here"]["seconds"], 2),
            "lowest": round(min(each), 2), "highest": round(max(each), 2),
        },
    }  # fmt: skip


def _a_mb(total: dict[str, Any], about: dict[str, Any], mb: float) -> dict[str, Any]:
    return {
        "cpu_seconds_a_mb": round(total["cpu_seconds"] / mb, 2), "seconds_a_mb": round(total["seconds"] / mb, 2),
        "chunks": total["chunks"], "vectors": total["vectors"], **about,
    }  # fmt: skip


def _batches(texts: Sequence[str], mb: float) -> list[list[str]]:
    """Beginnings of the texts in a seeded order, until there are ``mb`` million bytes of them."""
    order = [text[:TEXT_CHARS] for text in texts if text.strip()]
    random.Random(SEED).shuffle(order)  # noqa: S311 (reproducible, not a secret)
    batches: list[list[str]] = []
    held, left = BATCH_BYTES, mb * 1e6
    for text in order:
        if left <= 0:
            break
        if held >= BATCH_BYTES:
            batches.append([])
            held = 0
        batches[-1].append(text)
        held, left = held + len(text.encode()), left - len(text.encode())
    if not batches:
        raise BadInputError("there is no text to embed: give a folder or file with documents")
    return batches


class _Side:
    """The process that embeds with the code of one checkout (``embed_checkout.py``)."""

    def __init__(self, root: Path, settings: dict[str, Any]) -> None:
        self.root = root
        own = root / ".venv" / "bin" / "python"
        self._errors = TemporaryFile()  # noqa: SIM115 (closed by __exit__)
        self._process = subprocess.Popen(  # noqa: S603 (the user named the checkout)
            [str(own if own.exists() else sys.executable), embed_checkout.__file__, str(root)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, text=True, cwd=root,
            env={
                **os.environ, "PYTHONPATH": str(root), "PYTHONDONTWRITEBYTECODE": "1",
                "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false",
            },
        )  # fmt: skip
        self._settings = settings

    def __enter__(self) -> Self:
        try:
            self.about = self._ask(self._settings)
            if not Path(self.about["code"]).is_relative_to(self.root.resolve()):
                raise EnvironmentFaultError(
                    f"{self.root}: its interpreter runs the code at {self.about['code']}, not the one there"
                )
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process.stdin:
            self._process.stdin.close()
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout:
            self._process.stdout.close()
        self._errors.close()

    def embed(self, texts: Sequence[str]) -> dict[str, Any]:
        """Seconds, processor seconds, chunks and vectors of some texts."""
        return self._ask(list(texts))

    def _ask(self, question: Any) -> dict[str, Any]:
        assert self._process.stdin is not None  # noqa: S101 (both are opened as pipes)
        assert self._process.stdout is not None  # noqa: S101
        try:
            self._process.stdin.write(json.dumps(question) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise EnvironmentFaultError(f"the code in {self.root} does not embed: {self._last_words()}")
        found: dict[str, Any] = json.loads(line)
        return found

    def _last_words(self) -> str:
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it ended without a word"
