"""Artefacts: published whole or not at all, verified on load, reused by run key; aliases move and roll back."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
from moto.server import ThreadedMotoServer

from cluster.core.errors import BadInputError, EnvironmentFaultError, IntegrityError, PlinthError, UsageError
from cluster.core.home import Home
from cluster.core.storage import Store
from cluster.core.storage.store_keys import StoreKeys


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """An object store on loopback that this process can reach by plain URIs."""
    boto3, server = pytest.importorskip("boto3"), ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    pytest.importorskip("s3fs")
    server.start()
    with pytest.MonkeyPatch.context() as environment:
        host, port = server.get_host_and_port()
        environment.setenv("AWS_ACCESS_KEY_ID", "test")
        environment.setenv("AWS_SECRET_ACCESS_KEY", "test")
        environment.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        boto3.client("s3", region_name="us-east-1").create_bucket(Bucket="plinth")
        yield "s3://plinth"
        fsspec.get_filesystem_class("s3").clear_instance_cache()
    server.stop()


REMOTE = ("memory", "encrypted", "encrypted memory", pytest.param("s3", marks=pytest.mark.process))


def store_at(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    folder = uuid.uuid4().hex
    if kind.startswith("encrypted"):
        request.getfixturevalue("monkeypatch").setenv("PLINTH_HOME", str(tmp_path / "home"))
        Home.from_env().folder("keys")
        StoreKeys.make(Home.from_env().store_keys_path)
        kind = kind.removeprefix("encrypted ")
    if kind in ("local", "encrypted"):
        return Store(str(tmp_path / "store"))
    return Store(f"memory://{folder}" if kind == "memory" else f"{request.getfixturevalue('s3')}/{folder}")


@pytest.fixture(params=["local", *REMOTE])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return store_at(request.param, request, tmp_path)


@pytest.fixture(params=REMOTE)
def remote(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return store_at(request.param, request, tmp_path)


def publish(store: Store, run_key: str = "k1", content: bytes = b"x", name: str = "docs"):
    staging = store.staging(run_key)
    store.write(f"{staging}/part/a.bin", content)
    store.write(f"{staging}/b.bin", b"second")
    return store.publish("datasets", name, staging, run_key=run_key, counts={"kept": 2})


def test_publish_then_load_gives_the_same_manifest(store: Store) -> None:
    made = publish(store)
    loaded = store.manifest("datasets", "docs", made.version)
    assert loaded == made
    assert [entry.path for entry in loaded.files] == ["b.bin", "part/a.bin"]
    store.verify(loaded)
    assert store.read(f"{store.artefact(loaded)}/part/a.bin") == b"x"


def test_version_depends_on_bytes_alone(store: Store) -> None:
    first = publish(store, "k1")
    again = publish(store, "k2")
    other = publish(store, "k3", b"y")
    assert first.version == again.version
    assert again.created_at == first.created_at, "the first publication stays as it was"
    assert other.version != first.version
    assert len(store.versions("datasets", "docs")) == 2


def test_run_key_finds_the_finished_run_only_while_it_is_whole(store: Store) -> None:
    assert store.find_run("k1") is None
    made = publish(store, "k1")
    found = store.find_run("k1")
    assert found is not None
    assert found.version == made.version
    store.write(f"{store.artefact(made)}/b.bin", b"tampered")
    assert store.find_run("k1") is None


def test_nothing_is_published_without_files(store: Store) -> None:
    with pytest.raises(PlinthError, match="empty"):
        store.publish("datasets", "docs", store.staging("k"), run_key="k")


CONTENT = bytes(range(256)) * 40
DAMAGES = {
    "flip": CONTENT[:5000] + b"!" + CONTENT[5001:],
    "truncate": CONTENT[:-1],
    "grow": CONTENT + b"x",
}


@pytest.mark.parametrize("damage", [*DAMAGES, "remove"])
def test_damaged_artefacts_are_refused(store: Store, tmp_path: Path, damage: str) -> None:
    made = publish(store, content=CONTENT)
    path = f"{store.artefact(made)}/part/a.bin"
    if damage == "remove":
        store.fs.rm(path)
    else:
        store.fs.pipe_file(path, DAMAGES[damage])
    with pytest.raises(IntegrityError, match=r"a\.bin"):
        store.verify(made)
    with pytest.raises(IntegrityError, match=r"a\.bin"):
        store.fetch(made, tmp_path / "cache")
    assert not [found for found in (tmp_path / "cache").rglob("*a.bin*") if found.is_file()]


def test_fetched_files_are_the_published_ones(store: Store, tmp_path: Path) -> None:
    folder = store.fetch(publish(store, content=CONTENT), tmp_path / "cache")
    assert (folder / "part" / "a.bin").read_bytes() == CONTENT
    assert (folder / "b.bin").read_bytes() == b"second"


@pytest.mark.parametrize("damage", [*DAMAGES, "remove"])
def test_damaged_copies_are_fetched_again(remote: Store, tmp_path: Path, damage: str) -> None:
    made = publish(remote, content=CONTENT)
    copy = remote.fetch(made, tmp_path) / "part" / "a.bin"
    if damage == "remove":
        copy.unlink()
    else:
        copy.write_bytes(DAMAGES[damage])
    assert (remote.fetch(made, tmp_path) / "part" / "a.bin").read_bytes() == CONTENT


def test_whole_copies_are_not_read_from_the_store_again(remote: Store, tmp_path: Path) -> None:
    made = publish(remote, content=CONTENT)
    remote.fetch(made, tmp_path)
    remote.fs.rm(remote.artefact(made), recursive=True)
    assert (remote.fetch(made, tmp_path) / "part" / "a.bin").read_bytes() == CONTENT


def test_missing_versions_are_named(store: Store) -> None:
    with pytest.raises(BadInputError, match="docs@nope"):
        store.manifest("datasets", "docs", "nope")


@pytest.mark.parametrize(
    "name", ["", "../x", "..", "a/b", "/etc/passwd", "A", "x" * 65, "-rf", "a b", "a\0b", "a..b", "%2e%2e", "a\u2215b"]
)
def test_names_cannot_leave_their_folder(store: Store, name: str) -> None:
    with pytest.raises(UsageError):
        publish(store, name=name)
    with pytest.raises(UsageError):
        store.manifest("datasets", name, "v")


def test_aliases_move_and_roll_back_through_their_history(store: Store) -> None:
    versions = [publish(store, f"k{i}", bytes([i])).version for i in range(3)]
    assert store.alias("datasets", "docs", "live") is None
    for version in [*versions, versions[-1]]:
        store.move_alias("datasets", "docs", "live", version, why="test")
    assert [move["version"] for move in store.alias_history("datasets", "docs", "live")] == versions
    assert store.manifest("datasets", "docs", "live").version == versions[2]
    assert store.roll_back_alias("datasets", "docs", "live") == (versions[2], versions[1])
    assert store.roll_back_alias("datasets", "docs", "live") == (versions[1], versions[0])
    with pytest.raises(BadInputError, match="no earlier"):
        store.roll_back_alias("datasets", "docs", "live")
    assert store.alias("datasets", "docs", "live") == versions[0]


def test_aliases_point_only_to_what_exists(store: Store) -> None:
    with pytest.raises(BadInputError):
        store.move_alias("datasets", "docs", "live", "missing", why="test")


def test_concurrent_alias_moves_lose_nothing(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    versions = [publish(store, f"k{i}", bytes([i])).version for i in range(8)]
    threads = [
        threading.Thread(target=store.move_alias, args=("datasets", "docs", "live", version, "race"))
        for version in versions
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    moves = [move["version"] for move in store.alias_history("datasets", "docs", "live")]
    assert sorted(moves) == sorted(versions)


def test_staging_survives_a_killed_writer_and_leftovers_are_not_published(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    staging = store.staging("k1")
    Path(staging, "half.bin.1234.tmp").write_bytes(b"half")
    made = publish(store, "k1")
    assert [entry.path for entry in made.files] == ["b.bin", "part/a.bin"]


PUBLISHER = """
import os, signal, sys
from cluster.core import storage
from cluster.core.storage import Store
store, steps = Store(sys.argv[1]), int(sys.argv[2])
seen = 0
def killing(call):
    def wrapped(*args, **kwargs):
        global seen
        seen += 1
        if seen == steps:
            os.kill(os.getpid(), signal.SIGKILL)
        return call(*args, **kwargs)
    return wrapped
os.replace, os.rename, os.fsync = killing(os.replace), killing(os.rename), killing(os.fsync)
staging = store.staging("k1")
for name in ("a", "b"):
    store.write(f"{staging}/{name}", name.encode())
manifest = store.publish("datasets", "docs", staging, run_key="k1")
store.move_alias("datasets", "docs", "live", manifest.version, "test")
"""


@pytest.mark.process
def test_kill_at_every_step_leaves_all_or_nothing(tmp_path: Path) -> None:
    """SIGKILL before each fsync/rename in turn: a reader sees a whole artefact or none, and a rerun completes it."""
    step, killed = 0, True
    while killed:
        step += 1
        root = tmp_path / str(step)
        command = [sys.executable, "-c", PUBLISHER, str(root)]
        killed = subprocess.run([*command, str(step)], check=False).returncode == -9
        store = Store(str(root))
        for manifest in store.versions("datasets", "docs"):
            store.verify(manifest)
        assert subprocess.run([*command, "0"], check=False).returncode == 0
        live = store.alias("datasets", "docs", "live")
        assert live is not None
        store.verify(store.manifest("datasets", "docs", live))
    assert step > 8, "the hooks must have fired"


def test_full_disk_is_an_environment_fault(tmp_path: Path) -> None:
    """RLIMIT_FSIZE makes the kernel refuse the write, as a full disk would; nothing half written remains visible."""
    code = """
import resource, signal, sys
from cluster.core.errors import EnvironmentFaultError
from cluster.core.storage import Store
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
store = Store(sys.argv[1])
staging = store.staging("k1")
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    store.write(staging + "/big", b"x" * 5000)
except EnvironmentFaultError as error:
    print(error.message)
"""
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert "cannot write" in done.stdout
    assert not [p for p in tmp_path.rglob("big*")]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_unwritable_store_is_an_environment_fault(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(EnvironmentFaultError, match="cannot write"):
        Store(str(tmp_path / "store")).staging("k")


def test_manifest_is_plain_json(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    made = publish(store)
    body = json.loads((Path(store.artefact(made)) / "manifest.json").read_text())
    assert body["counts"] == {"kept": 2}
    assert body["version"] == made.version
