"""The rules of the design that a machine can check: who may import ray, which folder may import which, file length."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("cluster", "actors", "data_jobs", "train_jobs", "serve_apps")
MAX_LINES = 400

# Modules that run on Ray. Everything else imports and is tested without it. Adding a line here is a design decision.
RAY_MODULES = {
    "cluster/connect.py",
    "cluster/ray_errors.py",
    "cluster/submit.py",
    "actors/spawn.py",
    "data_jobs/prepare_corpus.py",
    "data_jobs/build_index.py",
    "data_jobs/make_synthetic.py",
    "data_jobs/make_tokens.py",
    "data_jobs/tasks.py",
    "data_jobs/benchmarks/preparation.py",
    "data_jobs/benchmarks/embedding.py",
    "train_jobs/fit.py",
    "train_jobs/distributed/group.py",
    "serve_apps/affinity_router.py",
    "serve_apps/deploy.py",
    "serve_apps/gateway/handles.py",
    "serve_apps/metrics/page.py",
    "serve_apps/metrics/recorder.py",
    "train_jobs/make_examples.py",
}

# What each folder may import of the others. `cluster.connect` lets a job join the cluster, `cluster.job_book` lets it
# be seen and wait for its turn, `cluster.ray_errors` takes Ray's wrapping off errors, `cluster.supervision` knows how
# often the head was put up again, `cluster.deployments` how many replicas there are, `cluster.haproxy_edge` what the
# edge writes on a request; none holds domain logic.
MAY_IMPORT = {
    "cluster/core": ("cluster.core",),
    "cluster/cli": ("cluster", "actors", "data_jobs", "train_jobs", "serve_apps"),
    "cluster": ("cluster",),
    "actors": ("cluster.core", "cluster.ray_errors", "actors"),
    "data_jobs": ("cluster.core", "cluster.connect", "cluster.job_book", "cluster.ray_errors", "data_jobs"),
    "train_jobs": (
        "cluster.core",
        "cluster.connect",
        "cluster.job_book",
        "cluster.ray_errors",
        "actors",
        "data_jobs",
        "train_jobs",
    ),
    "serve_apps": (
        "cluster.core",
        "cluster.ray_errors",
        "cluster.deployments",
        "cluster.supervision",
        "cluster.haproxy_edge",
        "actors.audit.client",
        "actors.audit.entries",
        "actors.audit.reading",
        "actors.feedback.book",
        "actors.ledger",
        "actors.registry.models",
        "actors.review.decisions",
        "actors.review.queue",
        "actors.spawn",
        "data_jobs",
        "train_jobs.answering",
        "serve_apps",
    ),
}

# The nouns serve_apps shares with corpus and training: what runs at request time is what ran on the corpus.
SERVE_MAY_IMPORT_OF_DATA_JOBS = (
    "data_jobs.pii",
    "data_jobs.safety",
    "data_jobs.text.normalise",
    "data_jobs.text.special_tokens",
    "data_jobs.governance.tombstones",
    "data_jobs.retrieval",
)

FORBIDDEN_NAMES = {"utils", "util", "helpers", "helper", "common", "manager", "misc"}


def modules() -> list[str]:
    return sorted(str(path.relative_to(ROOT)) for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


def imports(module: str) -> set[str]:
    """Every module name imported anywhere in the file, lazy imports and TYPE_CHECKING ones included."""
    found = set()
    for node in ast.walk(ast.parse((ROOT / module).read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def within(name: str, allowed: str) -> bool:
    return name == allowed or name.startswith(allowed + ".")


def folder_of(module: str) -> str:
    return max((folder for folder in MAY_IMPORT if module.startswith(folder + "/")), key=len)


@pytest.mark.parametrize("module", modules())
def test_ray_only_where_allowed(module: str) -> None:
    uses_ray = any(within(name, "ray") for name in imports(module))
    assert not uses_ray or module in RAY_MODULES, f"{module} imports ray; keep it plain or argue for the list"


def test_ray_list_has_no_dead_entries() -> None:
    assert [m for m in RAY_MODULES if not any(within(n, "ray") for n in imports(m))] == []


@pytest.mark.parametrize("module", modules())
def test_import_direction(module: str) -> None:
    allowed = MAY_IMPORT[folder_of(module)]
    ours = {name for name in imports(module) if name.split(".")[0] in PACKAGES}
    # `from cluster import local_head` yields both `cluster` and `cluster.local_head`; the longer one decides.
    ours = {name for name in ours if not any(other.startswith(name + ".") for other in ours)}
    wrong = sorted(name for name in ours if not any(within(name, prefix) for prefix in allowed))
    assert wrong == []


def import_graph(sources: dict[str, str]) -> dict[str, set[str]]:
    """Module name -> the modules it imports when it runs, lazily or not. ``if TYPE_CHECKING:`` blocks never run."""
    graph = {}
    for module, source in sources.items():
        tree = ast.parse(source)
        typing_only = {
            inner
            for node in ast.walk(tree)
            if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")
            for statement in node.body
            for inner in ast.walk(statement)
        }
        found: set[str] = set()
        for node in ast.walk(tree):
            if node in typing_only:
                continue
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                for alias in node.names:  # `from a import b` runs a.b where that is a module
                    full = f"{node.module}.{alias.name}"
                    found.add(full if full in sources else node.module)
        graph[module] = (found & sources.keys()) - {module}
    return graph


def import_circle(graph: dict[str, set[str]]) -> list[str]:
    """One circle as a path whose last module imports the first; empty where there is none."""
    done: set[str] = set()

    def walk(module: str, path: list[str]) -> list[str]:
        if module in path:
            return path[path.index(module) :]
        if module in done:
            return []
        for imported in sorted(graph[module]):
            if circle := walk(imported, [*path, module]):
                return circle
        done.add(module)
        return []

    return next((circle for module in sorted(graph) if (circle := walk(module, []))), [])


def test_no_import_circle() -> None:
    names = {m.removesuffix(".py").replace("/", ".").removesuffix(".__init__"): m for m in modules()}
    graph = import_graph({name: (ROOT / module).read_text() for name, module in names.items()})
    assert import_circle(graph) == [], "these modules import each other in a circle: move what they share elsewhere"


def test_a_lazy_import_closes_a_circle_and_a_typing_one_does_not() -> None:
    lazy = {"a": "from b import f", "b": "def f():\n    import c", "c": "import a.x, a"}
    assert import_circle(import_graph(lazy)) == ["a", "b", "c"]
    typed = {"a": "import b", "b": "if TYPE_CHECKING:\n    import a\nelse:\n    import math"}
    assert import_circle(import_graph(typed)) == []


@pytest.mark.parametrize("module", [m for m in modules() if m.startswith("serve_apps/")])
def test_serving_shares_only_plain_nouns(module: str) -> None:
    shared = {name for name in imports(module) if within(name, "data_jobs")}
    shared = {name for name in shared if not any(other.startswith(name + ".") for other in shared)}
    wrong = sorted(n for n in shared if not any(within(n, p) for p in SERVE_MAY_IMPORT_OF_DATA_JOBS))
    assert wrong == []


def test_no_module_is_imported_under_a_library_s_name() -> None:
    """Who reads ``tokenizers.load`` must be able to trust that it is the library."""
    libraries = set(importlib.metadata.packages_distributions()) - set(PACKAGES)
    borrowed = [
        f"{module}: {alias.asname or alias.name}"
        for module in modules()
        for node in ast.walk(ast.parse((ROOT / module).read_text()))
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] in PACKAGES
        for alias in node.names
        if (alias.asname or alias.name) in libraries and is_module(f"{node.module}.{alias.name}")
    ]
    assert borrowed == []


def is_module(dotted: str) -> bool:
    base = ROOT / dotted.replace(".", "/")
    return base.with_suffix(".py").is_file() or (base / "__init__.py").is_file()


@pytest.mark.parametrize("module", modules())
def test_files_stay_readable(module: str) -> None:
    path = ROOT / module
    assert len(path.read_text().splitlines()) <= MAX_LINES
    assert path.stem not in FORBIDDEN_NAMES
    assert not re.search(r"_v\d+$", path.stem)


def test_one_ray_init() -> None:
    callers = [m for m in modules() if re.search(r"\bray\.init\(", (ROOT / m).read_text())]
    assert callers == ["cluster/connect.py"]


def test_nothing_calls_ray_stop() -> None:
    assert [m for m in modules() if re.search(r"ray[\"', ]+stop", (ROOT / m).read_text())] == []


@pytest.mark.process
def test_plain_modules_import_without_ray() -> None:
    """In a process where `import ray` fails, every plain module still imports."""
    plain = [m for m in modules() if m not in RAY_MODULES and not m.endswith("__main__.py")]
    names = [m.removesuffix(".py").replace("/", ".").removesuffix(".__init__") for m in plain]
    code = f"import sys, importlib\nsys.modules['ray'] = None\nfor name in {names!r}: importlib.import_module(name)\n"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def imported_before_connecting(module: str) -> list[str]:
    """Import statements of the file's functions that stand before their ``with connected(...)``."""
    found = []
    for function in ast.walk(ast.parse((ROOT / module).read_text())):
        if not isinstance(function, ast.FunctionDef):
            continue
        inside = list(ast.walk(function))
        blocks = [n for n in inside if isinstance(n, ast.With) and "connected(" in ast.unparse(n.items[0])]
        if blocks:
            first = min(block.lineno for block in blocks)
            found += [n for n in inside if isinstance(n, ast.Import | ast.ImportFrom) and n.lineno < first]
    return [ast.unparse(node) for node in found]


@pytest.mark.process
def test_nothing_imports_ray_before_it_is_connected() -> None:
    """Ray reads its environment when it is imported: ``connected`` refuses to set it afterwards."""
    code = "\n".join(["import sys", "sys.modules['ray'] = None", *sorted({
        line for module in modules() for line in imported_before_connecting(module)
    })])  # fmt: skip
    assert code.count("import") > 10
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


@pytest.mark.process
def test_the_command_line_starts_light() -> None:
    """`plinth --help` must not wait for heavy libraries."""
    code = "import sys, cluster.cli.main; print([n for n in ('ray', 'torch', 'faiss', 'pyarrow') if n in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "[]"


def test_no_machine_paths_in_the_repository() -> None:
    """Nothing in the repository may know one machine's folders."""
    names = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\n")
    pattern = re.compile("/(?:wor" + "k|op" + "t/wheels)(?:/|$)", re.MULTILINE)
    texts = [n for n in names if n.endswith((".py", ".md", ".toml", ".txt", ".yaml", ".sh", "Makefile", "run"))]
    assert [n for n in texts if (ROOT / n).exists() and pattern.search((ROOT / n).read_text())] == []


def test_no_test_sleeps() -> None:
    """A test polls with a deadline: a pause of more than 10 ms stands in a loop that ends by a condition."""
    wrong = []
    for path in sorted((ROOT / "tests").rglob("*.py")):
        tree = ast.parse(path.read_text())
        looped = {
            id(inner)
            for loop in ast.walk(tree)
            if isinstance(loop, ast.While | ast.For | ast.AsyncFor)
            for inner in ast.walk(loop)
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("time.sleep", "asyncio.sleep", "sleep"):
                seconds = node.args[0]
                longest = 0.1 if id(node) in looped else 0.01
                if path.name != "fakes.py" and isinstance(seconds, ast.Constant) and seconds.value > longest:
                    wrong.append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert wrong == []
