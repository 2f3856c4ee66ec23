"""Collections: which index answers under a name and which one by default, whatever is built, removed or rolled back."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster.core.errors import BadInputError
from cluster.core.storage import Collections, Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path))


def live(store: Store, name: str, content: str = "x") -> str:
    staging = store.staging(f"{name}-{content}")
    store.write(f"{staging}/file", content.encode())
    version = store.publish("indexes", name, staging, run_key=f"{name}-{content}").version
    Collections(store, "main").go_live(name, version, why="test")
    return version


def test_a_home_with_one_unnamed_index_has_a_default_collection(store: Store) -> None:
    version = live(store, "main")
    assert not Path(store.path("collections")).exists()
    collections = Collections(store, "main")
    assert (collections.names, collections.default, collections.find()) == (["main"], "main", "main")
    assert collections.version("main") == version


def test_another_collection_never_takes_the_default(store: Store) -> None:
    collections = Collections(store, "main")
    live(store, "main")
    live(store, "notes")
    assert collections.default == "main"
    assert collections.use("notes", why="test") == "main"
    assert collections.default == "notes"
    live(store, "main", "newer")
    live(store, "other")
    assert collections.default == "notes"


@pytest.mark.parametrize("order", [("b", "a", "main"), ("a", "main", "b")])
def test_the_first_one_is_the_default_whatever_its_name_and_what_follows(store: Store, order: tuple[str, ...]) -> None:
    for name in order:
        live(store, name)
        assert Collections(store, "main").default == order[0]


def test_the_only_one_is_the_default_without_a_choice_and_stays_it(store: Store) -> None:
    version = live(store, "notes")
    assert not Path(store.path("collections")).exists()
    assert Collections(store, "main").default == "notes"
    live(store, "boats")
    assert Collections(store, "main").default == "notes"
    assert Collections(store, "main").version("notes") == version


def test_unknown_ones_are_refused_and_those_there_are_listed(store: Store) -> None:
    collections = Collections(store, "main")
    with pytest.raises(BadInputError, match="no collection yet"):
        collections.find()
    live(store, "main")
    live(store, "notes")
    for name in ("nope", "../main", "No Such", "a/b", ".."):
        assert collections.version(name) is None
        with pytest.raises(BadInputError, match="there are: main, notes"):
            collections.find(name)
        with pytest.raises(BadInputError, match="there are: main, notes"):
            collections.use(name, why="test")
    assert collections.default == "main"


def test_where_the_chosen_one_is_gone_the_first_one_answers(store: Store) -> None:
    collections = Collections(store, "main")
    live(store, "main")
    live(store, "notes")
    collections.use("notes", why="test")
    store.remove_alias("indexes", "notes", "live")
    assert (collections.names, collections.default) == (["main"], "main")
