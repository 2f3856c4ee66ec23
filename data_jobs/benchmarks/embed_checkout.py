"""Embeds texts with the code of one checkout of the project: a program of its own, run by its path.

It stands on what every version has: cut documents into chunks, embed the chunks, as an index build does. What moved or
changed its arguments between versions is looked for in each of its places. On stdin come a JSON object with settings of
``index`` (those that the version does not know are left out) and then lists of texts, a line each; on stdout goes a
line for each: what runs, then what a list took.
"""

from __future__ import annotations

import importlib
import inspect
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

BLOCKS = ("data_jobs.indexing.index_blocks", "data_jobs.index_blocks")
WARM_UP = ["A sentence to warm the model up with, of some length."] * 8


def main(root: str) -> None:
    """Serve stdin with the code below ``root`` until it ends."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    sys.path[0] = root  # not this file's folder, whose modules have names that others have, too
    # An editable install of another version would stand in for every module that this one does not have.
    sys.meta_path[:] = [f for f in sys.meta_path if not getattr(f, "__module__", "").startswith("__editable__")]
    document = _of("Document", "cluster.core.records")
    options = _of("IndexSection", "cluster.core.sections.data", "cluster.core.config")
    cut, embed, enclosed = (_of(name, *BLOCKS) for name in ("cut", "embed", "with_enclosing"))
    files_of = _of("find_model", "data_jobs.retrieval.model_files", "data_jobs.retrieval.embedder")
    embedder_of = _of("load_embedder", "data_jobs.retrieval.embedder")
    asked = json.loads(sys.stdin.readline())
    section = options(**{name: value for name, value in asked.items() if name in options.model_fields})
    files, embedder = files_of(section), embedder_of(section, 1)
    more = [section.batch_size] if "batch_size" in inspect.signature(embed).parameters else []
    code = Path(inspect.getfile(embed)).resolve()
    embedder.encode(WARM_UP)
    print(json.dumps({"code": str(code), "precision": getattr(embedder, "precision", "")}), file=out, flush=True)
    for line in sys.stdin:
        documents = [document(f"text-{i}", f"Text {i}", text, f"text-{i}") for i, text in enumerate(json.loads(line))]
        wall, cpu = time.perf_counter(), time.process_time()
        block = embed(cut(enclosed(documents), files, section), embedder, *more)
        took = {"seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - cpu}
        print(json.dumps({**took, "chunks": len(block.chunks), "vectors": len(block.vectors)}), file=out, flush=True)


def _of(name: str, *modules: str) -> Any:
    """``name`` out of the first of the modules that this version has and that holds it."""
    for module in modules:
        try:
            return getattr(importlib.import_module(module), name)
        except AttributeError:
            continue
        except ModuleNotFoundError as error:
            if not f"{module}.".startswith(f"{error.name}."):
                raise  # the module is there, a package that it needs is not
    raise ImportError(f"this version has no {name} in {' or '.join(modules)}")


if __name__ == "__main__":
    main(sys.argv[1])
