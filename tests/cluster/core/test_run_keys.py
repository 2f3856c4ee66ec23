"""Two runs are the same only if nothing that decides their result differs: code by imports, settings as declared."""

from __future__ import annotations

import importlib
import re
import shutil
from pathlib import Path

import pytest

from cluster.core import code
from cluster.core.code import PROCESS, ROOT, files_behind, source_hash
from cluster.core.presets import laptop
from cluster.core.run_keys import RunKey, every_field, expanded, sections_but

PACKAGES = ("cluster", "actors", "data_jobs", "train_jobs", "serve_apps")


def declared() -> dict[str, RunKey]:
    """Every RunKey of the project, found where it is declared."""
    found: dict[str, RunKey] = {}
    for path in sorted(p for package in PACKAGES for p in (ROOT / package).rglob("*.py")):
        if path.name != "run_keys.py" and re.search(r"\bRunKey\(", path.read_text()):
            module = importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))
            found |= {key.stage: key for key in vars(module).values() if isinstance(key, RunKey)}
    return found


def walks() -> dict[str, tuple[tuple[str, ...], tuple[str, ...]]]:
    """Whatever is hashed with its imports: the runs' keys, the served code, the actors."""
    from actors.spawn import ACTORS

    found = {stage: (key.code, code.RESULTS) for stage, key in declared().items()}
    found["service"] = (("serve_apps.deploy",), PROCESS)
    return found | {f"actor {role}": ((options.runs,), PROCESS) for role, options in ACTORS.items()}


def test_stages_are_known() -> None:
    stages = "prepare clean index watch tokens synthetic tokenizer pretrain finetune examples model gate publish"
    assert set(stages.split()) <= set(declared())


@pytest.mark.parametrize("stage", sorted(declared()))
def test_every_field_is_declared_in_or_out(stage: str) -> None:
    key = declared()[stage]
    inside, outside = expanded(key.inside), expanded(key.outside)
    assert sorted(inside & outside) == []
    assert sorted(every_field() - inside - outside) == [], f"say in the key of {stage} whether these change its result"


def test_a_field_that_nobody_declared_is_noticed() -> None:
    """What the ratchet above would say of a new field."""
    key = declared()["pretrain"]
    forgetful = [name for name in key.inside if name != "train.hidden"]
    assert every_field() - expanded(forgetful) - expanded(key.outside) == {"train.hidden"}


def test_a_field_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match=r"no field train\.hiden"):
        expanded(["train.hiden"])
    with pytest.raises(ValueError, match=r"no field nothing\.\*"):
        expanded(["nothing.*"])


def test_settings_are_those_inside() -> None:
    key = RunKey("t", ("cluster.core.records",), ("train.hidden", "gate.*"), sections_but("train", "gate"))
    config = laptop()
    assert key.settings(config.train) == {"hidden": config.train.hidden}
    assert key.settings(config.gate) == config.gate.model_dump()
    assert key.settings(config.serve) == {}
    assert key(config=1) != key(config=2)
    assert key(config=1) == key(config=1)


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("project")
    for package in PACKAGES:
        shutil.copytree(ROOT / package, root / package, ignore=shutil.ignore_patterns("__pycache__", "*.tsv", "*.js"))
    return root


@pytest.mark.parametrize("walk", sorted(walks()))
def test_a_new_module_at_the_end_of_a_walk_changes_the_key(walk: str, copy: Path) -> None:
    modules, within = walks()[walk]
    behind = [path for path in files_behind(*modules, within=within) if path.endswith(".py")]
    entries = {f"{name.replace('.', '/')}.py" for name in modules}
    deeper = [path for path in behind if path not in entries and not path.endswith("__init__.py")]
    leaf = (deeper or sorted(entries))[-1]
    folder = leaf.split("/")[0]
    folder = folder if folder in within else "data_jobs"
    text = (copy / leaf).read_text()
    new = copy / folder / "brand_new.py"

    def now() -> str:
        code.files_behind.cache_clear()
        return source_hash(*modules, within=within, root=copy)

    try:
        before = now()
        (copy / leaf).write_text(f"{text}\n\ndef lazily() -> None:\n    import {folder}.brand_new\n")
        new.write_text("VALUE = 1\n")
        imported = now()
        new.write_text("VALUE = 2\n")
        assert len({before, imported, now()}) == 3
    finally:
        (copy / leaf).write_text(text)
        new.unlink(missing_ok=True)
        code.files_behind.cache_clear()


def project(root: Path, **files: str) -> Path:
    for name, text in files.items():
        path = root / (name.replace("__", "/") + ".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_data_files_beside_a_module_count_and_imports_for_type_checkers_do_not(tmp_path: Path) -> None:
    root = project(
        tmp_path,
        data_jobs__a="from pathlib import Path\nfrom typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    import data_jobs.b\n"
        'LIST = Path(__file__).with_name("list.txt")\nSETS = Path(__file__).with_name("sets")\n',
        data_jobs__b="",
    )  # fmt: skip
    (root / "data_jobs/list.txt").write_text("one")
    (root / "data_jobs/sets").mkdir()
    (root / "data_jobs/sets/x.jsonl").write_text("{}")
    assert files_behind("data_jobs.a", root=root) == ("data_jobs/a.py", "data_jobs/list.txt", "data_jobs/sets/x.jsonl")


def test_a_name_that_is_no_module_is_refused() -> None:
    with pytest.raises(ValueError, match="no module of this project"):
        source_hash("data_jobs.nothing")


def test_the_walks_reach_what_hand_kept_lists_forgot() -> None:
    watch, index = files_behind("data_jobs.indexing.watch"), files_behind("data_jobs.build_index")
    for path in (
        "data_jobs/filters/web_quality.py",
        "data_jobs/text/language.py",
        "data_jobs/indexing/update_index.py",
    ):
        assert path in watch
    for path in ("data_jobs/build_index.py", "data_jobs/corpus/dataset.py", "data_jobs/governance/tombstones.py"):
        assert path in index
