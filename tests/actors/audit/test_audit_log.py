"""What is written stays, is encrypted, can be rotated, retired and erased; two writers and a full disk do no harm."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from actors.audit.audit_log import AuditLog
from actors.audit.chain import keys_path, segment_path, segments
from actors.audit.entries import Entry, Record
from actors.audit.events import record_event
from actors.audit.housekeeping import erase_samples, erase_tenant, retire, rotate
from actors.audit.key_ring import KeyRing
from actors.audit.reading import Wanted, newest, records
from actors.audit.server import AuditServer
from actors.audit.verifying import verify
from cluster.core.errors import EnvironmentFaultError, IntegrityError
from cluster.core.home import Home
from cluster.core.sections.audit import AuditSection
from tests.actors.audit.logs import filled, log_below

CANARY = "sk-live-canary-7f3b91"


def read(log: AuditLog) -> list[Record]:
    return list(records(log))


def bytes_below(root: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file())


def test_what_was_written_is_read(tmp_path: Path) -> None:
    log = filled(tmp_path, batches=3)
    found = read(log_below(tmp_path))
    assert [record.n for record in found] == list(range(1, 10))
    assert found[3].payload == {
        "kind": "request", "tenant": "ann", "route": "/v1/models", "status": 200, "number": 1
    }  # fmt: skip
    assert [record.single for record in found] == [False, False, True] * 3
    assert log.append([Entry.of("event")]) == 10


def test_the_newest_are_found_from_the_end(tmp_path: Path) -> None:
    log = filled(tmp_path, batches=8)
    assert [row["n"] for row in newest(log, Wanted(), 5)] == [20, 21, 22, 23, 24]
    assert [row["n"] for row in newest(log, Wanted(tenant="ann"), 7)] == [4, 7, 10, 13, 16, 19, 22]
    assert [row["n"] for row in newest(log, Wanted(tenant="ann", kind="request"), 100)] == list(range(1, 25, 3))
    assert newest(log, Wanted(tenant="nobody"), 5) == []
    segment_path(log.folder, 1).unlink()  # what is old is not looked at
    assert len(newest(log, Wanted(), 5)) == 5


def test_nothing_can_be_read_without_the_keys(tmp_path: Path) -> None:
    log = log_below(tmp_path)
    log.append([Entry.of("sample", f"tenant-{CANARY}", single=True, answer=CANARY), Entry.of("event", key=CANARY)])
    assert CANARY.encode() not in bytes_below(tmp_path)
    assert b"sample" not in bytes_below(log.folder)
    assert all(path.stat().st_mode & 0o077 == 0 for path in log.folder.iterdir())
    assert log.keys_path.stat().st_mode & 0o077 == 0
    assert log.head_file.path.stat().st_mode & 0o077 == 0
    log.keys_path.unlink()
    with pytest.raises(IntegrityError, match="is gone"):
        read(log)
    with pytest.raises(IntegrityError, match="is gone"):
        log_below(tmp_path).append([Entry.of("event")])


def test_two_writers_take_turns(tmp_path: Path) -> None:
    one, other = log_below(tmp_path), log_below(tmp_path)
    for number in range(10):
        one.append([Entry.of("event", "ann", number=number)])
        other.append([Entry.of("event", "bob", number=number)])
    assert verify(one).last == 20
    assert len(segments(one.folder)) > 1


def test_threads_share_commits(tmp_path: Path) -> None:
    log = log_below(tmp_path, segment_bytes=1 << 20)
    numbers: list[int] = []

    def write() -> None:
        numbers.extend(log.append([Entry.of("event")]) for _ in range(20))

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = verify(log)
    assert (found.last, max(numbers)) == (80, 80)
    assert found.head is not None
    assert found.head["turn"] <= 81  # the first one begins the log


def test_a_torn_write_is_cut_with_a_note(tmp_path: Path) -> None:
    log = filled(tmp_path, batches=2)
    path = segment_path(log.folder, segments(log.folder)[-1])
    with open(path, "ab") as segment:
        segment.write(b'{"n":7,"at":"2026-')
    assert verify(log).torn == 18
    assert log_below(tmp_path).append([Entry.of("event")]) == 8
    assert [record.payload["kind"] for record in read(log)[-2:] if record.payload] == ["recovered", "event"]
    assert read(log)[-2].payload == {"kind": "recovered", "after_record": 6, "cut_bytes": 18}


def test_whole_records_behind_the_head_are_kept(tmp_path: Path) -> None:
    """Their writer died between the sync of the records and that of the head."""
    log = filled(tmp_path, batches=2)
    head = log.head_file.raw()
    log.append([Entry.of("event")])
    log.head_file.path.write_bytes(head)
    assert verify(log).last == 7
    assert log_below(tmp_path).append([Entry.of("event")]) == 8


def test_a_head_that_was_cut_off_in_writing_is_healed(tmp_path: Path) -> None:
    log = filled(tmp_path, batches=2)
    raw = bytearray(log.head_file.raw())
    turns = [json.loads(raw[at : at + 1024].rstrip(b"\0"))["turn"] for at in (0, 1024)]
    newest = 1024 * turns.index(max(turns))
    raw[newest + 300 : newest + 1024] = bytes(724)
    log.head_file.path.write_bytes(bytes(raw))
    with pytest.raises(IntegrityError, match="damaged"):
        verify(log)
    assert log_below(tmp_path).append([Entry.of("event")]) == 8
    assert verify(log).last == 8
    assert read(log)[6].payload is not None
    assert read(log)[6].payload["kind"] == "recovered"  # type: ignore[index]


def test_erasing_a_tenant_leaves_the_chain_whole(tmp_path: Path) -> None:
    log = filled(tmp_path, batches=4)
    theirs = {record.segment for record in read(log) if record.payload and record.payload["tenant"] == "ann"}
    assert erase_tenant(log, "ann", by="root@host", why="contract ended") == len(theirs)
    assert verify(log).erased == 4
    assert verify(log).unfinished == 0
    assert all(record.payload is None for record in read(log)[0:12:3])
    last = read(log)[-1].payload
    assert last is not None
    assert (last["kind"], last["what"], last["name"], last["why"]) == ("erased", "tenant", "ann", "contract ended")
    log.append([Entry.of("request", "ann", route="/")])  # who comes back gets a key of their own
    assert read(log)[-1].payload == {"kind": "request", "tenant": "ann", "route": "/"}
    assert erase_tenant(log, "nobody", by="root@host") == 0


def test_erasing_a_document_takes_its_samples_only(tmp_path: Path) -> None:
    log = filled(tmp_path, batches=6)
    open_elsewhere = log_below(tmp_path)
    open_elsewhere.append([Entry.of("request", "ann", route="/")])
    about = ["notes/1.md", "notes"]
    assert erase_samples(log, lambda sample: about in sample["documents"], "document", about[0], "ann") == 2
    left = [record.payload["documents"][0][0] for record in read(log) if record.single and record.payload]
    assert sorted(set(left)) == ["notes/0.md", "notes/2.md"]
    assert len(left) == 4
    assert verify(log).erased == 2
    assert open_elsewhere.append([Entry.of("request", "ann", route="/")]) == 21  # 18, one, the erasure, one
    assert read(log)[-1].payload is not None


def test_an_erasure_that_was_interrupted_is_told_and_finished(tmp_path: Path) -> None:
    log = filled(tmp_path, batches=2)
    files = {path: path.read_bytes() for path in log.folder.glob("*.keys")}
    erase_tenant(log, "bob", by="ann")
    for path, content in files.items():
        path.write_bytes(content)  # the record is there, the keys are not destroyed
    assert verify(log_below(tmp_path)).unfinished > 0
    erase_tenant(log_below(tmp_path), "bob", by="ann")
    assert (verify(log).unfinished, verify(log).erased) == (0, 2)


def test_rotation_keeps_what_was_written_and_makes_old_keys_worthless(tmp_path: Path) -> None:
    log = filled(tmp_path, batches=3)
    other = log_below(tmp_path)
    other.append([Entry.of("event", "ann")])
    stolen = KeyRing.read(log.keys_path)
    names = rotate(log, by="root@host")
    assert (names["master"], list(KeyRing.read(log.keys_path).masters)) == ("m2", ["m2"])
    assert other.append([Entry.of("event", "ann", after=True)]) == 12  # who had the log open goes on with the new keys
    assert log.append([Entry.of("event", "bob", after=True)]) == 13
    assert [record.payload is not None for record in read(log)] == [True] * 13
    assert verify(log).last == 13
    for number in segments(log.folder):
        for line in keys_path(log.folder, number).read_text().splitlines():
            with pytest.raises(IntegrityError, match="its master key 'm2' is gone"):
                stolen.unwrap(json.loads(line), json.loads(line)["id"])
    rotate(log, by="root@host")
    assert verify(log).last == 14


def test_old_segments_go_and_the_rest_stays_whole(tmp_path: Path) -> None:
    log = filled(tmp_path, batches=8)
    before = segments(log.folder)
    assert retire(log, days=30) == 0
    assert retire(log, days=30, now="2100-01-01T00:00:00.000+00:00") == len(before) - 1
    found = verify(log)
    assert segments(log.folder)[0] == before[-1]
    assert {int(path.name[:8]) for path in log.folder.glob("0*")} == set(segments(log.folder))
    assert (found.first > 1, found.last) == (True, 25)
    last = read(log)[-1].payload
    assert last is not None
    assert (last["kind"], last["segments"]) == ("retired", before[:-1])
    assert log_below(tmp_path).append([Entry.of("event")]) == 26
    assert verify(log).last == 26


def test_each_day_has_segments_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for day in ("2026-11-28", "2026-11-29"):
        monkeypatch.setattr("actors.audit.audit_log.utc_now", lambda day=day: f"{day}T12:00:00.000+00:00")
        log_below(tmp_path, segment_bytes=1 << 20).append([Entry.of("event")])
    log = log_below(tmp_path)
    assert segments(log.folder) == [1, 2]
    assert retire(log, days=1, now="2026-11-30T13:00:00.000+00:00") == 1
    assert verify(log).first == 2


def test_a_full_disk_fails_closed(tmp_path: Path) -> None:
    """The limit of the process on a file's size is met in the middle of a batch, as a full disk would be."""
    log = log_below(tmp_path, segment_bytes=1 << 20)
    log.append([Entry.of("event", number=0)])
    path = segment_path(log.folder, 1)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    batch = [Entry.of("event", number=number) for number in range(1, 11)]
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 700, limits[1]))
        for _ in range(2):
            with pytest.raises(EnvironmentFaultError, match="File too large"):
                log.append(batch)
            assert verify(log_below(tmp_path)).last == 1
        with pytest.raises(EnvironmentFaultError, match="File too large"):  # nor for the keys of somebody new
            log.append([Entry.of("event", f"tenant {number}") for number in range(20)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert log.append(batch) == 11
    assert verify(log).last == 11
    assert verify(log).torn == 0


def test_events_of_administrators(tmp_path: Path) -> None:
    home, section = Home(tmp_path), AuditSection()
    masks = {"mask": lambda text: text.replace(CANARY, "<SECRET>")}
    assert (
        record_event(home, section, "key_created", by="ann@host", tenant="ann", key_id="k1", note=CANARY, **masks) == 1
    )
    assert record_event(home, AuditSection(on=False), "key_created") == 0
    assert read(AuditLog.of(home))[0].payload == {
        "kind": "event", "tenant": "ann", "action": "key_created", "by": "ann@host", "key_id": "k1", "note": "<SECRET>",
    }  # fmt: skip
    (tmp_path / "keys" / "audit.json").unlink()
    assert record_event(home, section, "key_revoked") == 0
    with pytest.raises(IntegrityError):
        record_event(home, AuditSection(required=True), "key_revoked")


def test_the_server_writes_keeps_house_and_gives_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLINTH_HOME", str(tmp_path))
    server = AuditServer(str(tmp_path), AuditSection(verify_hours=1e-9), loaded_at=7.0, period_s=0.01)
    assert server.write([Entry.of("event", "ann")]) == {"last": 1, "damaged": ""}
    path = segment_path(tmp_path / "audit", 1)
    content = path.read_bytes()
    path.write_bytes(content.replace(b'"n":1,"at":"2', b'"n":1,"at":"1'))
    waited = threading.Event()
    for _ in range(1000):
        if server.write([])["damaged"]:
            break
        waited.wait(0.01)
    assert server.write([])["damaged"].startswith("record 1 (segment 1): ")
    path.write_bytes(content)
    assert server.about() == {"loaded_at": 7.0, "writing": False, "draining": False}
    server.drain()
    with pytest.raises(EnvironmentFaultError, match="gives way"):
        server.write([Entry.of("event")])
    log = (tmp_path / "logs" / "audit.jsonl").read_text()
    assert '"event": "damaged"' in log


WRITER = """
import sys
from pathlib import Path
from actors.audit.entries import Entry
from tests.actors.audit.logs import log_below
log, number = log_below(Path(sys.argv[1]), 4000), 0
while True:
    number += 3
    last = log.append([Entry.of("event", f"t{number % 5}", number=number + i, single=i == 1) for i in range(3)])
    print(last, number, flush=True)
"""


@pytest.mark.process
def test_kill_9_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    acknowledged = 0
    expected: set[int] = set()
    for turn in range(6):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True, env=dict(os.environ)
        )
        assert writer.stdout is not None
        for _ in range(3 + 5 * turn):
            acknowledged, number = map(int, writer.stdout.readline().split())
            expected.update((number, number + 1, number + 2))
        writer.kill()
        for line in writer.stdout.read().splitlines():  # what it told before it died
            if len(words := line.split()) == 2:
                acknowledged = int(words[0])
        writer.wait()
        log = log_below(tmp_path, 4000)
        assert verify(log).last >= acknowledged
        assert expected <= {r.payload["number"] for r in read(log) if r.payload and "number" in r.payload}
    assert log.append([Entry.of("event")]) > acknowledged
    assert verify(log).torn == 0
