"""Object stores against a real S3 protocol server on loopback, and pages fetched by https, landing as files."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from moto.server import ThreadedMotoServer

from cluster.core.errors import BadInputError, EnvironmentFaultError, PolicyRefusedError
from cluster.core.sections.data import DataSection
from data_jobs.sources.entry import CatalogueEntry
from data_jobs.sources.fetch import allowing
from data_jobs.sources.located_files import KEPT, LocatedFiles, locate
from data_jobs.sources.objects import ObjectLimits, land_objects
from data_jobs.sources.records import Limits, read_records
from tests.data_jobs.extractors import made
from tests.data_jobs.sources.https_server import https_server
from tests.data_jobs.sources.test_fetch import send

pytestmark = pytest.mark.process
BUCKET = "corpus"


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    started = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    started.start()
    try:
        host, port = started.get_host_and_port()
        yield f"http://{host}:{port}"
    finally:
        started.stop()


@pytest.fixture
def bucket(server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator:
    for name, value in {
        "AWS_ENDPOINT_URL": server, "AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    client = boto3.client("s3")
    client.create_bucket(Bucket=BUCKET)
    yield lambda key, body: client.put_object(Bucket=BUCKET, Key=key, Body=body)
    for entry in client.list_objects_v2(Bucket=BUCKET).get("Contents", []):
        client.delete_object(Bucket=BUCKET, Key=entry["Key"])
    client.delete_bucket(Bucket=BUCKET)


def source(location: str, kind: str = "auto") -> CatalogueEntry:
    return CatalogueEntry(
        name="remote",
        location=location,
        owner="o",
        licence="MIT",
        sensitivity="public",
        uses=("retrieval",),
        format=kind,
    )


def opened(location: str, landing: Path, section: DataSection | None = None) -> LocatedFiles:
    return locate(section or DataSection(), source(location), landing)


def test_objects_land_as_files_and_hostile_keys_are_refused(bucket, tmp_path: Path) -> None:
    bucket("docs/a.md", b"# A\n\nwords of a")
    bucket("docs/sub/b.parquet", made.parquet([{"text": "words of b"}]))
    bucket("docs/prog.exe", b"MZ")
    bucket("docs/big.txt", b"x" * (2 << 20))
    bucket("docs/../../up.md", b"up")
    bucket("docs//abs.md", b"abs")
    bucket("docs/~/home.md", b"home")
    bucket("docs/C:/abs.md", b"abs")
    bucket("docs/back\\slash.md", b"back")
    bucket("docs/n.md", b"file n.md")
    bucket("docs/n.md/below.md", b"below a file")
    bucket("other/no.md", b"another prefix")
    landing = tmp_path / "landing"
    found = opened(f"s3://{BUCKET}/docs", landing, DataSection(max_file_mb=1))
    assert [item.path for item in found.files] == ["a.md", "n.md", "sub/b.parquet"]
    assert {q.source: q.reason for q in found.refused} == {
        "prog.exe": "unsupported_kind", "big.txt": "too_large", "~/home.md": "bad_name", "C:/abs.md": "bad_name",
        "../../up.md": "bad_name", "/abs.md": "bad_name", "back\\slash.md": "bad_name", "n.md/below.md": "duplicate",
    }  # fmt: skip
    inside = {p.relative_to(landing).parts[0] for p in landing.rglob("*")}
    assert inside == {"remote"}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["landing"]
    texts = [d.text for item in found.files for d in read_records(found.root, item, "remote", Limits())]  # type: ignore[union-attr]
    assert texts == ["# A\n\nwords of a", "file n.md", "words of b"]


def test_the_same_content_lands_in_the_same_folder_and_old_ones_go(bucket, tmp_path: Path) -> None:
    roots = []
    for version in range(KEPT + 2):
        bucket("docs/a.md", b"version %d" % version)
        roots.append(opened(f"s3://{BUCKET}/docs", tmp_path).root)
        assert opened(f"s3://{BUCKET}/docs/", tmp_path).root == roots[-1]
    assert len(set(roots)) == KEPT + 2
    assert len(list((tmp_path / "remote").iterdir())) == KEPT
    assert roots[-1].is_dir()


def test_one_object_and_nothing(bucket, tmp_path: Path) -> None:
    bucket("docs/a.jsonl", b'{"text": "one"}')
    assert [item.path for item in opened(f"s3://{BUCKET}/docs/a.jsonl", tmp_path).files] == ["a.jsonl"]
    for uri in (f"s3://{BUCKET}/none", "s3://no-such-bucket/x", f"s3://{BUCKET}/../x"):
        with pytest.raises((BadInputError, EnvironmentFaultError), match=r"no-such-bucket|nothing|goes up"):
            opened(uri, tmp_path)
    assert not [p for p in tmp_path.rglob("*.part")]


def test_caps_on_all_objects_together(bucket, tmp_path: Path) -> None:
    for number in range(4):
        bucket(f"docs/{number}.txt", b"x" * 1000)
    with pytest.raises(BadInputError, match="limit"):
        land_objects(f"s3://{BUCKET}/docs", tmp_path / "a", ObjectLimits(total_bytes=2500))
    with pytest.raises(BadInputError, match="limit"):
        land_objects(f"s3://{BUCKET}/docs", tmp_path / "b", ObjectLimits(count=3))


def test_a_store_that_cannot_be_reached(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    keys = {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x", "AWS_MAX_ATTEMPTS": "1"}
    for name, value in {"AWS_ENDPOINT_URL": "http://127.0.0.1:1", **keys}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(EnvironmentFaultError, match="cannot read s3://"):
        opened("s3://corpus/docs", tmp_path)
    try:
        import gcsfs  # noqa: F401
    except ImportError:
        with pytest.raises(EnvironmentFaultError, match="gcsfs"):
            opened("gs://corpus/docs", tmp_path)


def test_a_page_fetched_by_https_is_a_source(tmp_path: Path) -> None:
    with https_server(tmp_path, lambda h: send(h, made.page())) as (port, trust, _):

        def land(location: str, kind: str, context: ssl.SSLContext = trust) -> LocatedFiles:
            policy = allowing([f"localhost:{port}"])
            return locate(DataSection(), source(location, kind), tmp_path / "landing", policy, context)

        # Named by its path, by the catalogue's format, by the type the server declares.
        for path, kind, name in (("guide.html", "auto", "guide.html"), ("guide", "html", "remote.html"),
                                 ("guide/", "auto", "remote.html"),
                                 ("%2e%2e%2fup.html", "auto", "remote.html")):  # fmt: skip
            found = land(f"https://localhost:{port}/{path}", kind)
            assert [item.path for item in found.files] == [name]
            (document,) = read_records(found.root, found.files[0], "remote", Limits())
            assert document.title == "Kettles"  # type: ignore[union-attr]
        with pytest.raises(PolicyRefusedError):
            locate(DataSection(), source(f"https://localhost:{port}/x"), tmp_path / "landing", context=trust)
    assert sorted(p.name for p in (tmp_path / "landing").iterdir()) == ["remote"]
