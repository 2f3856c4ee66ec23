"""Whatever is changed in a log, `verify` names the first record that cannot be trusted."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from actors.audit.audit_log import AuditLog
from actors.audit.chain import DamagedError, keys_path, linked, segment_path, segments
from actors.audit.housekeeping import erase_samples, erase_tenant
from actors.audit.verifying import read_head, verify
from cluster.core.errors import BadInputError, IntegrityError
from tests.actors.audit.logs import filled, line_records, log_below

EXAMPLES = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("whole")
    log = filled(root)
    assert len(segments(log.folder)) >= 4
    assert verify(log).last == 24
    return root


@contextmanager
def copy_of(root: Path) -> Iterator[AuditLog]:
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(root, folder, dirs_exist_ok=True)
        yield log_below(Path(folder))


def lines_of(log: AuditLog) -> list[tuple[int, int, bytes, int]]:
    """Every line of the log: segment, its place there, its bytes, the record that is named when it is changed."""
    found = []
    for number in segments(log.folder):
        lines = segment_path(log.folder, number).read_bytes().splitlines(keepends=True)
        found += [
            (number, at, line, name)
            for at, (line, name) in enumerate(zip(lines, line_records(lines), strict=True))
        ]  # fmt: skip
    return found


def put(log: AuditLog, number: int, at: int, *lines: bytes) -> None:
    """Other lines in the place of one."""
    path = segment_path(log.folder, number)
    before = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*before[:at], *lines, *before[at + 1 :]]))


def named(log: AuditLog) -> int:
    with pytest.raises(DamagedError) as caught:
        verify(log)
    record: int = caught.value.extras["record"]
    assert caught.value.message.startswith(f"record {record} (segment {caught.value.extras['segment']}): ")
    return record


@EXAMPLES
@given(data=st.data())
def test_an_edited_byte_is_named(whole: Path, data: st.DataObject) -> None:
    with copy_of(whole) as log:
        number, at, line, record = data.draw(st.sampled_from(lines_of(log)))
        where, flip = data.draw(st.integers(0, len(line) - 1)), data.draw(st.integers(1, 255))
        edited = bytearray(line)
        edited[where] ^= flip
        put(log, number, at, bytes(edited))
        assert named(log) == record


@EXAMPLES
@given(data=st.data())
def test_a_deleted_line_is_named(whole: Path, data: st.DataObject) -> None:
    with copy_of(whole) as log:
        number, at, _, record = data.draw(st.sampled_from(lines_of(log)))
        put(log, number, at)
        assert named(log) == record


@EXAMPLES
@given(data=st.data())
def test_two_lines_that_changed_places_are_named(whole: Path, data: st.DataObject) -> None:
    with copy_of(whole) as log:
        lines = lines_of(log)
        one, other = sorted(data.draw(st.sets(st.integers(0, len(lines) - 1), min_size=2, max_size=2)))
        (number, at, line, record), (number_2, at_2, line_2, _) = lines[one], lines[other]
        put(log, number, at, line_2)
        put(log, number_2, at_2, line)
        assert named(log) == record


@EXAMPLES
@given(data=st.data())
def test_a_line_that_stands_twice_is_named(whole: Path, data: st.DataObject) -> None:
    with copy_of(whole) as log:
        lines = lines_of(log)
        number, at, line, record = data.draw(st.sampled_from(lines[:-1]))
        put(log, number, at, line, line)
        assert named(log) == record + ("n" in json.loads(line))


@EXAMPLES
@given(data=st.data())
def test_a_segment_cut_off_anywhere_is_named(whole: Path, data: st.DataObject) -> None:
    with copy_of(whole) as log:
        number = data.draw(st.sampled_from(segments(log.folder)))
        path = segment_path(log.folder, number)
        content = path.read_bytes()
        size = data.draw(st.integers(0, len(content) - 1))
        lines = content.splitlines(keepends=True)
        names, ends = line_records(lines), [sum(map(len, lines[: n + 1])) for n in range(len(lines))]
        path.write_bytes(content[:size])
        assert named(log) == next(name for name, end in zip(names, ends, strict=True) if size < end)


@EXAMPLES
@given(data=st.data())
def test_segments_that_are_gone_or_changed_places_are_named(whole: Path, data: st.DataObject) -> None:
    with copy_of(whole) as log:
        one, other = sorted(data.draw(st.sets(st.sampled_from(segments(log.folder)), min_size=2, max_size=2)))
        path, path_2 = segment_path(log.folder, one), segment_path(log.folder, other)
        first = json.loads(path.read_bytes().splitlines()[0])["first"]
        if data.draw(st.booleans()):
            path.unlink()
        else:
            content = path.read_bytes()
            path.write_bytes(path_2.read_bytes())
            path_2.write_bytes(content)
        assert named(log) == first


@EXAMPLES
@given(data=st.data())
def test_whoever_computes_all_hashes_anew_is_found_at_the_record(whole: Path, data: st.DataObject) -> None:
    """An attacker who knows the format, but has no key: an edit, a removal or an exchange, and the whole chain anew."""
    with copy_of(whole) as log:
        lines = lines_of(log)
        rows = [(number, json.loads(line)) for number, _, line, _ in lines]
        places = [i for i, (_, row) in enumerate(rows) if "n" in row]
        place = data.draw(st.sampled_from(places))
        record, how = rows[place][1]["n"], data.draw(st.sampled_from(["at", "data", "key", "removed", "moved"]))
        if how == "removed":
            if record == 24:  # nothing follows it: the head is what finds it
                return
            del rows[place]
        elif how == "moved":
            other = data.draw(st.sampled_from([p for p in places if p > place] or [place]))
            if other == place:
                return
            rows[place], rows[other] = (rows[place][0], rows[other][1]), (rows[other][0], rows[place][1])
        elif how == "at":
            rows[place][1]["at"] = "2020-01-01T00:00:00.000+00:00"
        elif how == "key":
            rows[place][1]["key"] = "0123456789abcdef"
        else:
            other = data.draw(st.sampled_from([p for p in places if p != place]))
            rows[place][1]["data"] = rows[other][1]["data"]
        rechain(log, rows)
        assert named(log) == record


def rechain(log: AuditLog, rows: list[tuple[int, dict]]) -> None:
    chain, last = "0" * 64, 0
    files: dict[int, bytes] = {}
    for number, row in rows:
        fields = {key: value for key, value in row.items() if key != "hash"}
        if "segment" in fields:
            fields["first"] = last + 1
        elif "end" in fields:
            fields["last"] = last
        else:
            last += 1
            fields["n"] = last
        line, chain = linked(chain, fields)
        files[number] = files.get(number, b"") + line
    for number, content in files.items():
        segment_path(log.folder, number).write_bytes(content)


@EXAMPLES
@given(data=st.data())
def test_an_edited_head_is_refused(whole: Path, data: st.DataObject) -> None:
    with copy_of(whole) as log:
        raw = bytearray(log.head_file.raw())
        raw[data.draw(st.integers(0, len(raw) - 1))] ^= data.draw(st.integers(1, 255))
        log.head_file.path.write_bytes(bytes(raw))
        with pytest.raises(IntegrityError, match="head"):
            verify(log)


@EXAMPLES
@given(data=st.data())
def test_an_edited_or_lost_key_is_named_with_a_record_of_its_segment(whole: Path, data: st.DataObject) -> None:
    with copy_of(whole) as log:
        number = data.draw(st.sampled_from(segments(log.folder)))
        path = keys_path(log.folder, number)
        lines = path.read_bytes().splitlines(keepends=True)
        at = data.draw(st.integers(0, len(lines) - 1))
        users = [
            row["n"]
            for _, _, line, _ in lines_of(log)
            if (row := json.loads(line)).get("key") == json.loads(lines[at])["id"]
        ]
        edited = bytearray(lines[at])
        if whole_line := data.draw(st.booleans()):
            edited = bytearray()
        else:
            edited[data.draw(st.integers(0, len(edited) - 2))] ^= data.draw(st.integers(1, 127))
        path.write_bytes(b"".join([*lines[:at], bytes(edited), *lines[at + 1 :]]))
        record = named(log)
        assert record == users[0] if whole_line else record <= users[0]


def test_the_newest_records_cut_off_with_the_head_as_it_is(whole: Path) -> None:
    for removed in (1, 2, 3):
        with copy_of(whole) as log:
            number = segments(log.folder)[-1]
            path = segment_path(log.folder, number)
            lines = path.read_bytes().splitlines(keepends=True)
            path.write_bytes(b"".join(lines[:-removed]))
            assert named(log) == 25 - removed


def test_log_and_head_of_yesterday_are_found_with_a_head_of_today(tmp_path: Path) -> None:
    log = filled(tmp_path / "log", batches=3)
    shutil.copytree(tmp_path / "log", tmp_path / "yesterday")
    more = filled(tmp_path / "log", batches=2)
    today = json.loads(json.dumps(verify(more).to_dict()))
    assert verify(log, read_head(json.dumps(today))).last == 15
    back = log_below(tmp_path / "yesterday")
    assert verify(back).last == 9  # by itself it was whole once
    with pytest.raises(DamagedError, match=r"record 10 .*the log ended with record 15"):
        verify(back, read_head(json.dumps(today)))
    filled(tmp_path / "yesterday", batches=3)  # it went on otherwise
    with pytest.raises(DamagedError, match=r"it is not the one that the earlier head names|the log was cut off"):
        verify(back, read_head(json.dumps(today["head"])))
    with pytest.raises(BadInputError, match="is no head"):
        read_head("{}")


def test_a_log_that_was_removed_is_missed(tmp_path: Path) -> None:
    log = filled(tmp_path, batches=1)
    assert verify(log_below(tmp_path / "another")).last == 0
    shutil.rmtree(log.folder)
    log.folder.mkdir()
    assert named(log) == 1
    log.head_file.path.unlink()
    with pytest.raises(IntegrityError, match="the log was removed: its keys are there"):
        verify(log)
    filled(tmp_path, batches=1)  # who writes on begins anew, and says so
    assert verify(log).last == 4


def test_a_lost_key_is_no_erasure_unless_a_record_says_so(whole: Path) -> None:
    with copy_of(whole) as log:
        assert erase_tenant(log, "bob", by="ann") > 0
        assert (
            erase_samples(
                log, lambda sample: ["notes/1.md", "notes"] in sample["documents"], "document", "notes/1.md", "ann"
            )
            == 3
        )
        assert verify(log).erased == 8 + 3
        path = keys_path(log.folder, 1)
        path.write_bytes(path.read_bytes().splitlines(keepends=True)[-1])
        assert named(log) == 1
