"""What a run is recorded with besides its settings: versions of the packages that decide a result, and hardware."""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import os
import platform
import sys
from pathlib import Path
from typing import Any

# Those whose arithmetic, data order or file formats a training run's result depends on.
PACKAGES = ("torch", "ray", "numpy", "safetensors", "tokenizers", "transformers", "pyarrow", "deepspeed", "peft",
            "opacus")  # fmt: skip


@functools.cache
def package_versions() -> dict[str, str]:
    """Versions of Python and of those of ``PACKAGES`` that are installed. Reads metadata, imports none of them."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def hardware_here() -> dict[str, Any]:
    """The CPU's name, CPUs this process may use, the machine's memory in MiB, and GPUs where torch was imported
    already and sees any (a run on GPUs has)."""
    found: dict[str, Any] = {"cpu": cpu_name(), "cpus": len(os.sched_getaffinity(0))}
    with contextlib.suppress(OSError, ValueError):
        found["memory_mb"] = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2**20
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        found["gpus"] = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
        found["cuda"] = torch.version.cuda
    return found


@functools.cache
def cpu_name() -> str:
    """As the kernel names it (Linux), else the architecture."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()
