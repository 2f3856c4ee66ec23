"""The standard library's documentation: names, aliases, sources. Scanned once for the module (about 2 s)."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

from cluster.core.records import Document
from data_jobs.sources.pydocs import cmodules, stdlib
from data_jobs.sources.pydocs.asked import shipped_questions
from data_jobs.sources.pydocs.documents import link, read_pydocs
from data_jobs.sources.pydocs.linker import Linker
from data_jobs.sources.pydocs.pysource import scan_python
from data_jobs.sources.pydocs.symbols import ModuleScan, Symbol

SUITE = Path(__file__).parents[4] / "train_jobs/evaluation/suites/stdlib.jsonl"


@pytest.fixture(scope="module")
def whole_library() -> list[Document]:
    return list(read_pydocs())


@pytest.fixture(scope="module")
def by_name(whole_library: list[Document]) -> dict[str, Document]:
    named = {alias: document for document in whole_library for alias in document.aliases}
    return {**named, **{document.id: document for document in whole_library}}


NAMES = """
json json.loads asyncio.gather concurrent.futures.ThreadPoolExecutor os.path.join os.path.getsize sorted
str.split dict.setdefault decimal.Decimal.quantize functools.lru_cache functools.partial collections.deque
re.sub collections.Counter.most_common collections.OrderedDict open subprocess.run itertools.groupby
heapq.heappush bisect.insort hashlib.sha256 hashlib.new sqlite3.Connection.execute socket.socket.recv
struct.pack csv.reader threading.Lock random.shuffle secrets.token_hex array.array mmap.mmap datetime.datetime
re.Match.group types.SimpleNamespace multiprocessing.Pool unittest.mock.patch.object io.StringIO os.listdir
os.fsencode pathlib.PurePath.with_suffix asyncio.TaskGroup time.sleep zlib.compress sys.exit math.gcd OSError
int.bit_length os.path datetime.date.strftime operator.itemgetter pickle.dumps
"""


@pytest.mark.parametrize("name", NAMES.split())
def test_the_id_is_the_shortest_public_name(name: str, by_name: dict[str, Document]) -> None:
    assert by_name[name].id == name


@pytest.mark.parametrize(
    ("alias", "document"),
    [
        ("posixpath.join", "os.path.join"), ("genericpath.getsize", "os.path.getsize"), ("io.open", "open"),
        ("asyncio.tasks.gather", "asyncio.gather"), ("bisect.insort_right", "bisect.insort"),
        ("pathlib.Path.with_suffix", "pathlib.PurePath.with_suffix"), ("IOError", "OSError"),
        ("datetime.datetime.strftime", "datetime.date.strftime"), ("secrets.choice", "random.choice"),
        ("random.SystemRandom.shuffle", "random.shuffle"), ("posixpath", "os.path"),
        ("multiprocessing.Process", "multiprocessing.process.BaseProcess"),
        ("concurrent.futures.thread.ThreadPoolExecutor", "concurrent.futures.ThreadPoolExecutor"),
    ],
)  # fmt: skip
def test_other_public_names_are_aliases(alias: str, document: str, by_name: dict[str, Document]) -> None:
    assert by_name[alias].id == document


def test_accepted_names_of_the_question_suite_exist(by_name: dict[str, Document]) -> None:
    """Every question can be answered by some document (single names may lack a docstring in one Python version)."""
    rows = [json.loads(line) for line in SUITE.read_text().splitlines()]
    unanswerable = [row["id"] for row in rows if row["answerable"] and not any(n in by_name for n in row["accepted"])]
    assert not unanswerable


def test_documents_are_complete_and_unique(whole_library: list[Document]) -> None:
    ids = [document.id for document in whole_library]
    assert ids == sorted(set(ids))
    assert len(ids) > 6500
    known = set(ids)
    for document in whole_library:
        assert document.text.strip() == document.text != ""
        assert document.title
        assert "\n" not in document.title + document.signature
        assert not any(part.startswith("_") for part in document.id.replace("__import__", "").split("."))
        assert not document.part_of or document.part_of in known
        assert document.id not in document.aliases
        assert document.aliases == tuple(sorted(document.aliases))


def test_sources_name_file_and_line(by_name: dict[str, Document]) -> None:
    file, line = by_name["json.loads"].source.split(":")
    source = (stdlib.stdlib_root() / file).read_text().splitlines()
    assert file == "json/__init__.py"
    assert source[int(line) - 1].startswith("def loads(")
    assert by_name["time.sleep"].source == "time"


def test_fields_of_a_method(by_name: dict[str, Document]) -> None:
    method = by_name["collections.Counter.most_common"]
    assert (method.kind, method.part_of, method.signature) == ("method", "collections.Counter", "(n=None)")
    assert method.title == "collections.Counter.most_common(n=None)"
    assert by_name["sorted"].kind == "builtin"
    assert by_name["json"].title == "module json"


@pytest.mark.parametrize(
    "prefix", ["test", "idlelib", "lib2to3", "turtledemo", "distutils", "antigravity", "this", "encodings.utf_8"]
)
def test_what_is_no_part_of_the_library_is_left_out(prefix: str, whole_library: list[Document]) -> None:
    assert not [d.id for d in whole_library if d.id == prefix or d.id.startswith(f"{prefix}.")]


@pytest.mark.process
def test_some_modules_only() -> None:
    found = {document.id for document in read_pydocs(["builtins", "json"])}
    assert {"json.loads", "json", "sorted", "str.split", "str"} <= found
    assert not {"csv.reader", "os"} & found


def test_merging_does_not_depend_on_the_order_of_scans() -> None:
    names = ["json", "json.decoder", "json.encoder", "json.scanner", "heapq", "_heapq", "builtins"]
    scans, refused = stdlib.scan_modules(names)
    backwards, _ = stdlib.scan_modules(names[::-1])
    assert not refused
    assert link(scans) == link(backwards)


def test_python_modules_are_read_without_importing_them() -> None:
    code = (
        "import sys; from data_jobs.sources.pydocs import documents, stdlib; before = set(sys.modules);"
        "documents.link(stdlib.scan_modules([n for n in stdlib.module_files() if n[0] in 'jtw'])[0]);"
        "print(sorted(n for n in set(sys.modules) - before if not n.startswith('_sysconfigdata')))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert run.stdout.strip() == "[]"


def test_only_allowed_modules_are_imported() -> None:
    with pytest.raises(ValueError, match="not on the list"):
        cmodules.scan_compiled("readline")
    assert "_tkinter_tests" not in cmodules.ALLOWED
    assert not [name for name in cmodules.ALLOWED if "test" in name]


# -- the scanner and the linker on small modules -----------------------------------------------------------------------
def scan(tmp_path: Path, name: str, source: str) -> ModuleScan:
    path = tmp_path / (f"{name}.py" if not name.endswith("_pkg") else f"{name}/__init__.py")
    path.parent.mkdir(exist_ok=True)
    path.write_text(source)
    return scan_python(name, path, tmp_path)


def ids(*scans: ModuleScan) -> dict[str, tuple[str, ...]]:
    return {d.id: d.aliases for d in link([ModuleScan("builtins", "builtins"), *scans])}


def test_all_hides_imported_names_but_not_definitions(tmp_path: Path) -> None:
    private = scan(tmp_path, "_impl", "def shown():\n  'One.'\ndef hidden():\n  'Two.'\n")
    public = scan(
        tmp_path, "front", "from _impl import shown, hidden as other\n__all__ = ['shown']\ndef own():\n  'Three.'\n"
    )
    assert ids(private, public) == {"front.shown": (), "front.own": (), "front.other": ()}


def test_platform_branches_are_decided(tmp_path: Path) -> None:
    source = "import sys\nif sys.platform == 'win32':\n  def f():\n    'Windows.'\nelse:\n  def f():\n    'Here.'\n"
    expected = "Windows." if sys.platform == "win32" else "Here."
    assert [d.text for d in link([scan(tmp_path, "plat", source)])] == [expected]


def test_a_cycle_of_star_imports_ends(tmp_path: Path) -> None:
    one = scan(tmp_path, "one", "from two import *\ndef f():\n  'F.'\n")
    two = scan(tmp_path, "two", "from one import *\ndef g():\n  'G.'\n")
    assert set(ids(one, two)) == {"one.f", "two.g"} | set()


def test_lazy_reexports_and_templates(tmp_path: Path) -> None:
    source = (
        "_DOC = 'Encode {what}.'\n__all__ = ['late', 'enc']\n"
        "def __getattr__(name):\n  from _deep import late\n  return late\n"
        "def enc(): pass\nenc.__doc__ = _DOC.format(what='bytes')\n"
    )
    deep = scan(tmp_path, "_deep", "def late():\n  'Late.'\n")
    documents = link([deep, scan(tmp_path, "lazy", source)])
    assert {d.id: d.text for d in documents} == {"lazy.late": "Late.", "lazy.enc": "Encode bytes."}


def test_bound_methods_of_an_instance(tmp_path: Path) -> None:
    source = "class Dice:\n  def roll(self, n=1):\n    'Roll.'\n_inst = Dice()\nroll = _inst.roll\n"
    assert ids(scan(tmp_path, "game", source)) == {"game.roll": ("game.Dice.roll",)}


def test_overrides_without_docstring_are_aliases_of_the_base(tmp_path: Path) -> None:
    source = "class A:\n  def f(self):\n    'Does.'\nclass B(A):\n  def f(self): pass\n"
    assert ids(scan(tmp_path, "cls", source)) == {"cls.A.f": ("cls.B.f",)}


def test_a_broken_module_is_reported_not_raised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "broken.py"
    path.write_text("def (:\n")
    monkeypatch.setattr(stdlib, "module_files", lambda: {"broken": path})
    monkeypatch.setattr(stdlib, "stdlib_root", lambda: tmp_path)
    scans, refused = stdlib.scan_modules(["broken"])
    assert not scans
    assert [(r.source, r.reason) for r in refused] == [("broken", "unreadable_module")]


def test_unknown_conditions_count_both_branches(tmp_path: Path) -> None:
    found = scan(
        tmp_path, "both", "import os\nif hasattr(os, 'x'):\n  def f():\n    'Yes.'\nelse:\n  def f():\n    'No!!.'\n"
    )
    assert [s.doc for s in found.bindings["f"] if isinstance(s, Symbol)] == ["Yes.", "No!!."]
    assert len(Linker([found]).lookup("both", "f")) == 2


def test_signatures_drop_self_and_annotations() -> None:
    node = ast.parse("def f(self, a: int, /, b=1, *args, c: str = 'x', **kw): ...").body[0]
    assert isinstance(node, ast.FunctionDef)
    from data_jobs.sources.pydocs.pysource import signature

    assert signature(node.args, bound=True) == "(a, /, b=1, *args, c='x', **kw)"


def test_shipped_questions_are_for_names_of_this_library(whole_library: list[Document]) -> None:
    """A few names come and go with versions of Python; more than that would be a mistake in the files."""
    shipped = list(shipped_questions())
    placed = sum(len(document.questions) for document in whole_library)
    assert 0.97 * len(shipped) <= placed <= len(shipped)


def test_nearly_every_document_has_shipped_questions(whole_library: list[Document]) -> None:
    """One without any loses to the many written for others; only what another version of Python adds has none."""
    assert sum(bool(document.questions) for document in whole_library) >= 0.95 * len(whole_library)
