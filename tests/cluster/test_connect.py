"""What Ray prints by itself does not reach the terminal, what the program prints does; SIGTERM stays ours."""

from __future__ import annotations

import os
import signal
import sys
import threading

import pytest

from cluster.connect import ray_aside, sigterm_kept
from cluster.core.home import Home


def test_words_of_rays_threads_go_to_a_log_and_ours_to_the_terminal(
    home: object, capsys: pytest.CaptureFixture[str]
) -> None:
    del home
    place = Home.from_env()

    def warn() -> None:
        print("(raylet) 8 PYTHON worker processes have been started")
        print("(raylet) and this on stderr", file=sys.stderr)

    with ray_aside(place):
        thread = threading.Thread(target=warn, name="ray_listen_error_messages")
        thread.start()
        thread.join()
        print("ours")
    said = capsys.readouterr()
    assert (said.out, said.err) == ("ours\n", "")
    assert (place.logs / "ray_driver.log").read_text().splitlines() == [
        "(raylet) 8 PYTHON worker processes have been started", "(raylet) and this on stderr",
    ]  # fmt: skip


def test_the_thread_of_rays_that_prints_is_still_called_so() -> None:
    """Ray names it in its source; another name in a newer Ray would bring its words back to the terminal."""
    from importlib.util import find_spec
    from pathlib import Path

    from cluster.connect import RAY_THREADS

    found = find_spec("ray")
    assert found is not None
    assert found.origin is not None
    source = (Path(found.origin).parent / "_private" / "worker.py").read_text()
    assert f'name="{RAY_THREADS}listen_error_messages"' in source


def test_a_verb_is_interrupted_by_sigterm_and_not_ended_by_rays_handler() -> None:
    def as_ray_does(number: int, frame: object) -> None:
        del frame
        raise SystemExit(number)

    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with sigterm_kept():
            signal.signal(signal.SIGTERM, as_ray_does)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)


def test_connecting_in_a_thread_touches_no_signal() -> None:
    before, failed = signal.getsignal(signal.SIGTERM), []

    def connect() -> None:
        try:
            with sigterm_kept():
                pass
        except ValueError as error:  # what the interpreter raises outside the main thread
            failed.append(error)

    thread = threading.Thread(target=connect)
    thread.start()
    thread.join()
    assert (signal.getsignal(signal.SIGTERM), failed) == (before, [])
