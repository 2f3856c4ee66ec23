"""The job book: who may run, who waits for whom, what is left when a process dies, what may be shown."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import pytest

from cluster import job_book
from cluster.cli.jobs import job_row
from cluster.core.home import Home
from cluster.core.sections.cluster import ClusterSection
from cluster.job_book import Book, Booked, entered, places_of, waits, without_secrets
from cluster.processes import born

ROOT = Path(__file__).resolve().parents[2]


def holder(name: str, started: float = 0.0) -> Booked:
    return Booked(name, "index build", name, holds=True, started=started)


def queued(name: str, at: float) -> Booked:
    return Booked(name, "data prepare", name, queued=at, state="waiting")


def eventually(condition: Callable[[], Any], timeout_s: float = 60) -> Any:
    deadline = time.monotonic() + timeout_s
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.02)
    return found


# -- admission ---------------------------------------------------------------------------------------------------------
def test_heavy_jobs_have_places_and_queue_first_come_first_served() -> None:
    one, two, three = queued("one", 1), queued("two", 2), queued("three", 3)
    running = holder("notes", started=40.0)
    everybody = [three, running, two, one]
    found = [waits(job, everybody, places=1) for job in (one, two, three)]
    assert [wait.position for wait in found if wait] == [1, 2, 3]
    assert all(wait and wait.held_by == (running,) for wait in found)
    assert waits(one, [one, two, three], places=1) is None
    assert waits(two, [one, two, three], places=1) is not None, "nobody overtakes"
    assert [waits(job, everybody, places=3) is None for job in (one, two, three)] == [True, True, False]
    assert waits(one, [Booked("s", "data synth", heavy=False, holds=True)], places=1) is None, "light ones hold nothing"
    assert waits(one, [Booked("h", "train pretrain", state="running")], places=1) is None, (
        "nor does who has not asked yet"
    )


def test_a_wait_names_the_holder_since_when_and_the_position() -> None:
    wait = waits(queued("b", 2), [holder("notes", started=20.0), queued("a", 1)], places=1)
    assert wait is not None
    assert wait.text(now=200.0) == (
        "waiting for a place, 2nd in the queue: held by index build of notes (started 3 min ago)"
    )


def test_places_follow_the_cpus_unless_configured() -> None:
    assert [places_of(ClusterSection(cpus=cpus)) for cpus in (1, 2, 4, 8, 17)] == [1, 1, 1, 2, 4]
    assert places_of(ClusterSection(cpus=2, heavy_jobs=3)) == 3


def test_positions_read_well() -> None:
    assert [job_book.ordinal(n) for n in (1, 2, 3, 4, 11, 22)] == ["1st", "2nd", "3rd", "4th", "11th", "22nd"]


def test_verbs_are_named_as_they_are_typed() -> None:
    known = [("data_jobs", "index"), ("data_jobs", "prepare"), ("train_jobs", "pretrain"), ("quickstart", "")]
    assert [job_book.title_of(*one) for one in known] == ["index build", "data prepare", "train pretrain", "quickstart"]
    sources = ("https://a.example/notes/?sig=1", "/home/ann/notes", "https://ann:pw@a.example", "")
    found = [job_book.subject_of(argparse.Namespace(name=None, source=source)) for source in sources]
    assert found == ["notes", "notes", "***", ""]
    assert job_book.subject_of(argparse.Namespace(dataset="notes@0a1b")) == "notes"


def test_no_secret_of_a_command_line_is_shown() -> None:
    given = [
        "prepare", "--source", "https://ann:pw@host/notes?X-Amz-Signature=abc", "--set", "serve.api_key=abc",
        "--api-token", "abc", "--tokenizer", "small", "--set", "train.name=small", "--secret=abc",
    ]  # fmt: skip
    assert without_secrets(given) == [
        "prepare", "--source", "https://***@host/notes?***", "--set", "serve.api_key=***",
        "--api-token", "***", "--tokenizer", "small", "--set", "train.name=small", "--secret=***",
    ]  # fmt: skip


# -- the book ----------------------------------------------------------------------------------------------------------
def arguments(**given: Any) -> argparse.Namespace:
    return argparse.Namespace(preset=None, overrides=[], **given)


def test_an_entry_shows_progress_and_leaves_history(home: Path) -> None:
    book = Book(Home(home))
    with entered("data_jobs", "prepare", arguments(name="notes"), ["--name", "notes"]) as entry:
        entry.take_place()
        entry.stage("clean", 10, "files")
        entry.waits("waits for 1 CPU: 0 of 2 free")
        (job,) = eventually(lambda: [job for job in book.jobs() if job.waiting])
        assert job_row(job, time.time())[1:3] == ("running", "clean, waits for 1 CPU: 0 of 2 free")
        entry.waits("")
        entry.advance(4)
        entry.counts(kept=3)
        (job,) = eventually(lambda: [job for job in book.jobs() if job.done == 4])
        assert (job.name, job.state, job.holds, job.counts) == ("data prepare of notes", "running", True, {"kept": 3})
        row = job_row(job, time.time())
        assert row[:3] == ("data prepare of notes", "running", "clean")
        assert row[3].startswith("4/10 files, ")
        mode = next((home / "run" / "jobs").glob("job-*.json")).stat().st_mode
        assert mode & 0o077 == 0
    with pytest.raises(ValueError, match="damaged"), entered("data_jobs", "index", arguments(), []):
        raise ValueError("damaged")
    with pytest.raises(KeyboardInterrupt), entered("data_jobs", "index", arguments(), []):
        raise KeyboardInterrupt
    assert book.jobs() == []
    ended = [(job.state, job.note) for job in book.finished()]
    assert ended == [("interrupted", ""), ("failed", "damaged"), ("done", "")]
    assert job_row(book.finished()[1], time.time())[1:3] == ("failed", "damaged")


def test_the_history_is_short(home: Path) -> None:
    book = Book(Home(home))
    for number in range(job_book.HISTORY + 3):
        book.finish(Booked(str(number), "index build"))
    assert [job.id for job in book.finished()] == [str(n) for n in range(job_book.HISTORY + 2, 2, -1)]


def test_a_pid_given_to_another_process_is_not_the_job(home: Path) -> None:
    book, here = Book(Home(home)), job_book.socket.gethostname()
    book.write(Booked("alive", "index build", pid=os.getpid(), born=born(os.getpid()), host=here))
    book.write(Booked("reused", "index build", pid=os.getpid(), born=born(os.getpid()) - 1, host=here))
    book.write(Booked("elsewhere", "index build", pid=1, host="other", updated=time.time()))
    book.write(Booked("silent", "index build", pid=1, host="other", updated=time.time() - 600))
    assert [job.id for job in book.jobs()] == ["alive", "elsewhere"]
    assert {(job.id, job.state) for job in book.finished()} == {("reused", "lost"), ("silent", "lost")}


def test_light_jobs_and_what_is_no_job_do_not_wait(home: Path) -> None:
    with entered("data_jobs", "index", arguments(), []) as heavy:
        heavy.take_place()
        with entered("data_jobs", "tokens", arguments(), []) as light:
            light.take_place()
    job_book.take_place()


# -- real processes ----------------------------------------------------------------------------------------------------
JOB = """
import argparse, sys, time
from cluster.job_book import entered
from cluster.core.entry import interrupt_as_exception, run_main

def work():
    args = argparse.Namespace(preset=None, overrides=["cluster.heavy_jobs=1"], name=sys.argv[1])
    with entered("data_jobs", "index", args, []) as entry:
        entry.take_place()
        print("has it", flush=True)
        sys.stdin.readline()
    return 0

interrupt_as_exception()
sys.exit(run_main(work))
"""


@pytest.mark.process
def test_who_is_killed_gives_its_place_back_and_ctrl_c_leaves_the_queue(home: Path) -> None:
    book = Book(Home(home))
    started: list[subprocess.Popen[str]] = []

    def start(name: str) -> subprocess.Popen[str]:
        pipe = subprocess.PIPE
        started.append(
            subprocess.Popen(
                [sys.executable, "-c", JOB, name], cwd=ROOT, stdin=pipe, stdout=pipe, stderr=pipe, text=True
            )
        )
        eventually(lambda: any(job.subject == name for job in book.jobs()))
        return started[-1]

    def says(stream: IO[str] | None) -> str:
        assert stream is not None
        return stream.readline()

    def states() -> dict[str, tuple[str, str]]:
        return {job.subject: (job.state, job.waiting) for job in book.jobs()}

    try:
        holder = start("first")
        assert says(holder.stdout) == "has it\n"
        second = start("second")
        eventually(lambda: states()["second"][0] == "waiting")
        third = start("third")
        eventually(lambda: "2nd in the queue: held by index build of first" in states()["third"][1])
        assert "1st in the queue: held by index build of first (started" in says(second.stderr)

        third.send_signal(signal.SIGINT)
        assert third.wait(60) == 130
        assert sorted(states()) == ["first", "second"]

        holder.kill()
        assert says(second.stdout) == "has it\n"
        assert states() == {"second": ("running", "")}
        second.communicate("go on\n", timeout=60)
        assert second.returncode == 0
        assert [(job.subject, job.state) for job in book.finished()] == [
            ("second", "done"), ("first", "lost"), ("third", "interrupted"),
        ]  # fmt: skip
    finally:
        for process in started:
            process.kill()
            process.communicate()


@pytest.mark.process
def test_two_that_ask_at_once_do_not_both_get_the_last_place(home: Path) -> None:
    book = Book(Home(home))
    own: Any = {"pid": os.getpid(), "born": born(os.getpid()), "host": job_book.socket.gethostname()}
    asked = [Booked(str(n), "index build", queued=n, **own) for n in range(8)]
    for job in asked:
        book.write(job)
    threads = [threading.Thread(target=book.admit, args=(job, 2)) for job in asked]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(job.holds for job in book.jobs()) == 2
    assert json.loads((home / "run" / "jobs" / "job-7.json").read_text())["state"] in ("running", "waiting")
