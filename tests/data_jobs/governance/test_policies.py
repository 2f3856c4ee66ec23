"""The catalogue and its policies, and sources of every place landing as files."""

from __future__ import annotations

import datetime
import json
import subprocess
import sys
from pathlib import Path

import pytest

from cluster.core.errors import BadInputError, ExitCode, PolicyRefusedError, UsageError
from cluster.core.records import Manifest
from cluster.core.sections.data import DataSection
from data_jobs.governance.policies import POLICIES, check_use, licence_allowed, violations
from data_jobs.sources.catalogue import find_entry, governed, load_catalogue
from data_jobs.sources.entry import CatalogueEntry
from data_jobs.sources.globs import matches
from data_jobs.sources.located_files import locate
from data_jobs.sources.registry import BUILT_IN

GOOD = """
sources:
  handbook:
    location: docs
    owner: Ann
    licence: CC-BY-4.0
    sensitivity: internal
    approved_by: Board
    approved_on: 2025-05-01
    uses: [retrieval]
"""


def catalogue(folder: Path, text: str = GOOD, **changes: str) -> Path:
    for key, value in changes.items():
        lines = [line for line in text.splitlines() if not line.strip().startswith(f"{key}:")]
        text = "\n".join([*lines, *([f"    {key}: {value}"] if value else [])])
    path = folder / "sources.yaml"
    path.write_text(text)
    return path


def section(path: Path, source: str = "handbook", **fields: object) -> DataSection:
    return DataSection(source=source, sources=str(path), **fields)  # type: ignore[arg-type]


def test_an_approved_source_marks_what_is_made_of_it(tmp_path: Path) -> None:
    marked, source = governed(section(catalogue(tmp_path)))
    assert source is not None
    assert source.location == str(tmp_path / "docs")
    assert (marked.licence, marked.owner, marked.sensitivity, marked.uses, marked.name) == (
        "CC-BY-4.0", "Ann", "internal", ("retrieval",), "handbook",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "fields", "policy"),
    [
        ({"approved_by": ""}, {}, "source-approved"),
        ({"approved_on": ""}, {}, "source-approved"),
        ({"approved_on": "2999-01-01"}, {}, "source-approved"),
        ({}, {"use": "pretraining"}, "use-allowed"),
        ({"uses": "[]"}, {}, "use-allowed"),
        ({"licence": "GPL-3.0-only"}, {}, "licence-allowed"),
        ({"licence": "unknown"}, {}, "licence-allowed"),
        ({}, {"licences": ("MIT",)}, "licence-allowed"),
        ({"sensitivity": "restricted"}, {}, "sensitivity"),
    ],
)  # fmt: skip
def test_each_policy_refuses_by_name(tmp_path: Path, changes: dict, fields: dict, policy: str) -> None:
    with pytest.raises(PolicyRefusedError, match=f"`{policy}`") as caught:
        governed(section(catalogue(tmp_path, **changes), **fields))
    assert caught.value.exit_code == ExitCode.REFUSED
    assert caught.value.extras["policy"] == policy
    assert policy in POLICIES


def test_restricted_data_where_the_configuration_says_so(tmp_path: Path) -> None:
    path = catalogue(tmp_path, sensitivity="restricted")
    assert governed(section(path, restricted=True))[0].sensitivity == "restricted"


def test_pydocs_is_built_in_and_a_plain_folder_is_its_users_own(tmp_path: Path) -> None:
    for use in ("retrieval", "pretraining", "fine-tuning"):
        assert violations(BUILT_IN["pydocs"], DataSection(use=use)) == []  # type: ignore[arg-type]
    assert governed(DataSection())[0].licence == "PSF-2.0"
    plain, source = governed(DataSection(source=str(tmp_path)))
    assert source is None
    assert (plain.owner, plain.licence) == ("user", "unknown")
    with pytest.raises(UsageError, match="no source"):
        find_entry(section(catalogue(tmp_path), source="missing"))


@pytest.mark.parametrize(
    ("expression", "allowed"),
    [
        ("MIT", True),
        ("mit", True),
        ("GPL-3.0-only", False),
        ("MIT OR GPL-3.0-only", True),
        ("MIT AND GPL-3.0-only", False),
        ("GPL-3.0-only AND X OR MIT", True),
        ("GPL-3.0-only AND (X OR MIT)", False),
        ("(MIT OR X) AND Apache-2.0", True),
        ("Apache-2.0 WITH LLVM-exception", True),
        ("", False),
        ("MIT OR", False),
        ("(MIT", False),
        ("MIT)", False),
        ("MIT MIT", False),
        ("(" * 5000, False),
    ],
)
def test_licence_expressions(expression: str, allowed: bool) -> None:
    assert licence_allowed(expression, ("MIT", "Apache-2.0")) is allowed


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[]", "one mapping"),
        ("sources: [1]", "one mapping"),
        ("sources: {a: 1}", "sources.a"),
        ("a: b: c", "cannot read"),
        ("sources: {}\nother: 1", "one mapping"),
        ("sources: {pydocs: {}}", "built in"),
        ("sources: {'../x': {}}", "usable name"),
        (GOOD + "    colour: red\n", "colour"),
        (GOOD.replace("internal", "secret"), "sensitivity"),
        (GOOD.replace("[retrieval]", "[selling]"), "uses"),
        (GOOD.replace("    owner: Ann\n", ""), "owner"),
        (GOOD.replace("docs", "ftp://x/y"), "ftp"),
        (GOOD.replace("docs", "http://x/y"), "http"),
        (GOOD + "    format: exe\n", "no format"),
        (GOOD + "    owner: Bob\n", "twice"),
        ("a: &a [1]\nsources: *a", "aliases"),
        ("sources: !!python/object/apply:os.system [x]", "cannot read"),
        (GOOD.replace("2025-05-01", "soon"), "approved_on"),
        (GOOD.replace("Ann", "''"), "owner"),
        ("sources:\n  a:\n    name: b\n", "the key is the name"),
        ("[" * 5000, "cannot read"),
    ],
)
def test_a_catalogue_that_says_something_else_is_refused_with_its_place(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "sources.yaml"
    path.write_text(text)
    with pytest.raises(UsageError, match=says) as caught:
        load_catalogue(path)
    assert "\n" not in caught.value.message


def manifest(**config: object) -> Manifest:
    return Manifest("datasets", "d", "v", "k", (), config=config)


def test_training_asks_what_a_dataset_may_be_used_for() -> None:
    check_use(manifest(), "pretraining", DataSection())
    check_use(manifest(uses=["pretraining"]), "pretraining", DataSection())
    with pytest.raises(PolicyRefusedError, match="`use-allowed`"):
        check_use(manifest(uses=["retrieval"]), "fine-tuning", DataSection())
    held = manifest(uses=["pretraining"], sensitivity="restricted")
    with pytest.raises(PolicyRefusedError, match="`sensitivity`"):
        check_use(held, "pretraining", DataSection())
    check_use(held, "pretraining", DataSection(restricted=True))


# -- places ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("pattern", "path", "fits"),
    [
        ("*.md", "a.md", True), ("*.md", "sub/a.md", False), ("**/*.md", "a.md", True), ("**/*.md", "x/y/a.md", True),
        ("**", "x/y/a.md", True), ("x/**", "x/y/a.md", True), ("x/**", "z/a.md", False), ("[ab].md", "b.md", True),
        ("[!ab].md", "c.md", True), ("[!ab].md", "b.md", False), ("a?.md", "ab.md", True), ("a?.md", "a/.md", False),
        ("*a*a*a*a*a*a*b", "a" * 40, False), ("[[]x].md", "[x].md", True), ("", "anything", True),
    ],
)  # fmt: skip
def test_globs(pattern: str, path: str, fits: bool) -> None:
    assert matches(pattern, path) is fits


def tree(root: Path) -> Path:
    for name in ("docs/a.md", "docs/sub/b.md", "docs/c.txt", "docs/r.jsonl"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text('{"text": "some words"}' if name.endswith("jsonl") else f"words of {name}")
    return root / "docs"


@pytest.mark.parametrize(
    ("location", "kind", "paths", "refused"),
    [
        ("docs", "auto", ["a.md", "c.txt", "r.jsonl", "sub/b.md"], []),
        ("docs/**/*.md", "auto", ["a.md", "sub/b.md"], []),
        ("docs/r.jsonl", "auto", ["r.jsonl"], []),
        ("docs", "jsonl", ["r.jsonl"], ["a.md", "c.txt", "sub/b.md"]),
        ("doc?/*.txt", "auto", ["docs/c.txt"], []),
    ],
)
def test_local_places(tmp_path: Path, location: str, kind: str, paths: list[str], refused: list[str]) -> None:
    tree(tmp_path)
    text = GOOD.replace("location: docs", f'location: "{location}"') + f"    format: {kind}\n"
    source = load_catalogue(catalogue(tmp_path, text))["handbook"]
    opened = locate(DataSection(), source, tmp_path / "landing")
    assert [item.path for item in opened.files] == paths
    assert [q.source for q in opened.refused] == refused
    assert not (tmp_path / "landing").exists()


def test_a_place_with_nothing_is_an_error(tmp_path: Path) -> None:
    tree(tmp_path)
    for location in ("docs/*.pdf", "gone", "gone/*.md"):
        source = load_catalogue(catalogue(tmp_path, GOOD.replace("location: docs", f"location: '{location}'")))[
            "handbook"
        ]
        with pytest.raises(BadInputError):
            locate(DataSection(), source, tmp_path / "landing")


@pytest.mark.process
def test_the_table_of_sources(tmp_path: Path) -> None:
    path = catalogue(tmp_path, approved_by="")
    argv = ["plinth", "data", "sources", "--file", str(path)]
    root = Path(__file__).resolve().parents[3]
    env = {"PLINTH_HOME": str(tmp_path / "home"), "PATH": "/usr/bin:/bin", "COLUMNS": "200"}
    code = f"import sys; sys.argv = {argv!r}; from cluster.cli.main import run; run()"
    done = subprocess.run([sys.executable, "-c", code], cwd=root, env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    for word in ("pydocs", "handbook", "CC-BY-4.0", "source-approved"):
        assert word in done.stdout.replace("\n", "")
    code = code.replace("'sources',", "'sources', '--json',")
    done = subprocess.run([sys.executable, "-c", code], cwd=root, env=env, capture_output=True, text=True, timeout=60)
    rows = {row["name"]: row for row in json.loads(done.stdout)["sources"]}
    assert rows["handbook"]["refused"][0]["policy"] == "source-approved"
    assert rows["pydocs"]["refused"] == []


@pytest.mark.process
@pytest.mark.parametrize(
    ("changes", "use", "code", "says"),
    [({"approved_by": ""}, "retrieval", 4, "source-approved"), ({}, "fine-tuning", 4, "use-allowed"),
     ({"licence": "GPL-2.0-only"}, "retrieval", 4, "licence-allowed"), ({"colour": "red"}, "retrieval", 2, "colour")],
)  # fmt: skip
def test_a_job_that_violates_a_policy_exits_4_and_names_it(
    tmp_path: Path, changes: dict, use: str, code: int, says: str
) -> None:
    path = catalogue(tmp_path, **changes)
    command = [sys.executable, "-m", "data_jobs", "prepare", "--source", "handbook", "--sources", str(path)]
    root = Path(__file__).resolve().parents[3]
    env = {"PLINTH_HOME": str(tmp_path / "home"), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        [*command, "--use", use, "--json"], cwd=root, env=env, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == code, done.stderr
    error = json.loads(done.stdout)["error"]
    assert says in error["message"]
    assert code == 2 or error["policy"] == says


def test_dates_are_days() -> None:
    future = BUILT_IN["pydocs"].model_copy(update={"approved_on": datetime.date(2030, 1, 2)})
    assert violations(future, DataSection(), today=datetime.date(2030, 1, 1))
    assert not violations(future, DataSection(), today=datetime.date(2030, 1, 2))
    assert isinstance(CatalogueEntry.model_validate(BUILT_IN["pydocs"].model_dump(exclude={"access"})), CatalogueEntry)
