"""What an index of many chunks takes: bytes a chunk on disk, and in the memory of a process that searches it.

Memory is measured, not added up: a process of its own loads the index as a retriever does and reads its own size in
/proc before and after (Linux). What arrays take is known from their files; what is left are texts and names.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from cluster.core.errors import EnvironmentFaultError
from cluster.core.records import Manifest
from cluster.core.sections.data import RetrievalSection
from data_jobs.retrieval.search import Searcher
from data_jobs.retrieval.segments import Meta, bytes_by_part
from data_jobs.retrieval.snapshot import Snapshot

IN_MEMORY_AS_ON_DISK = ("vectors", "keys", "dense")


def footprint(folder: Path, section: RetrievalSection) -> dict[str, Any]:
    """Load the index in ``folder`` in another process and say what it took.

    Returns:
        ``disk_bytes_per_chunk`` and ``memory_bytes_per_chunk``, each by part and ``all``; ``load_s`` and
        ``load_cpu_s``: seconds, and seconds of processor time, to read it (``read``) and to make the lexical index
        (``lexical``); ``load_peak_mb``: most memory while loading.

    Raises:
        EnvironmentFaultError: the other process failed (too little memory).
    """
    done = subprocess.run(  # noqa: S603 (this Python, this module)
        [sys.executable, "-m", __name__, str(folder), section.model_dump_json()], stdout=subprocess.PIPE, text=True
    )
    if done.returncode:
        raise EnvironmentFaultError(f"loading the index ended with {done.returncode} (too little memory?)")
    found = json.loads(done.stdout.splitlines()[-1])
    chunks = max(1, found["chunks"])
    disk = bytes_by_part({str(path): path.stat().st_size for path in folder.rglob("*") if path.is_file()})
    memory = {part: disk[part] for part in IN_MEMORY_AS_ON_DISK if part in disk}
    memory["texts and names"] = max(0, found["read_bytes"] - sum(memory.values()))
    memory["lexical index"] = found["lexical_bytes"]
    return {
        "disk_bytes_per_chunk": _a_chunk(disk, chunks), "memory_bytes_per_chunk": _a_chunk(memory, chunks),
        "load_s": found["seconds"], "load_cpu_s": found["cpu_seconds"], "load_peak_mb": found["peak_mb"],
    }  # fmt: skip


def load(folder: Path) -> Snapshot:
    """The index that ``write_snapshot`` wrote into ``folder``, for whatever embedder it names."""
    return Snapshot.load(folder, Manifest("indexes", "bench", "bench", "", ()), Meta.read(folder, "bench").fingerprint)


def _a_chunk(parts: dict[str, int], chunks: int) -> dict[str, int]:
    return {"all": round(sum(parts.values()) / chunks), **{name: round(size / chunks) for name, size in parts.items()}}


def _main(folder: str, section: str) -> None:
    import faiss  # noqa: F401  (its code counts before, as all that is imported above)
    import pyarrow.parquet  # noqa: F401

    before, began = _memory("VmRSS"), (time.perf_counter(), time.process_time())
    snapshot = load(Path(folder))
    read, at = _memory("VmRSS"), (time.perf_counter(), time.process_time())
    searcher = Searcher(snapshot, None, RetrievalSection.model_validate_json(section))  # type: ignore[arg-type]
    ready, end = _memory("VmRSS"), (time.perf_counter(), time.process_time())
    wall, cpu = ({"read": round(at[i] - began[i], 1), "lexical": round(end[i] - at[i], 1)} for i in range(2))
    print(json.dumps({
        "chunks": len(searcher.snapshot.chunks), "read_bytes": read - before, "lexical_bytes": ready - read,
        "seconds": wall, "cpu_seconds": cpu, "peak_mb": round(_memory("VmHWM") / 1e6),
    }))  # fmt: skip


def _memory(field: str) -> int:
    """A size of this process in bytes: ``VmRSS`` now, ``VmHWM`` at most."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise EnvironmentFaultError("memory is measured in /proc, which only Linux has")


if __name__ == "__main__":
    _main(*sys.argv[1:])
