from __future__ import annotations

from data_jobs.corpus.splits import is_held_out

IDS = [f"module.function_{n}" for n in range(5000)]


def test_the_share_is_kept_and_grows_monotonically() -> None:
    small, large = ({i for i in IDS if is_held_out(i, share)} for share in (0.1, 0.3))
    assert 0.08 < len(small) / len(IDS) < 0.12
    assert 0.27 < len(large) / len(IDS) < 0.33
    assert small < large


def test_the_side_of_a_document_never_changes() -> None:
    """Finished artefacts rely on it: these sides were noted once."""
    names = ("shutil.copytree", "os.path.join", "json.dumps", "re.sub", "heapq.merge")
    assert [name for name in names if is_held_out(name, 0.5)] == ["os.path.join", "json.dumps"]
