"""Ray's wrapping comes off: errors of ours arrive as raised, full disks and dead processes as one line."""

from __future__ import annotations

import errno

import pytest
import ray.exceptions as theirs

from cluster.core.errors import BadInputError, EnvironmentFaultError, IntegrityError, PlinthError
from cluster.ray_errors import cause_of, own_error, plain, plain_errors


def task_error(cause: BaseException) -> theirs.RayTaskError:
    """As ``ray.get`` raises it: of a class that is also the cause's."""
    return theirs.RayTaskError("f", "Traceback ...", cause).as_instanceof_cause()


def died_at_its_start(cause: BaseException) -> theirs.ActorDiedError:
    return theirs.ActorDiedError(theirs.RayTaskError("A.__init__", f"Traceback ...\nValueError: {cause}", cause))


class TrainingFailedError(Exception):
    """The shape of Ray Train's error."""

    def __init__(self, *failures: BaseException) -> None:
        super().__init__("2 workers failed")
        self.worker_failures = dict(enumerate(failures))


def test_an_error_of_ours_arrives_as_it_was_raised() -> None:
    raised = IntegrityError("documents-00001.parquet is damaged: prepare it again", path="x")
    wrapped_once = task_error(raised)
    for wrapped in (wrapped_once, task_error(wrapped_once), TrainingFailedError(wrapped_once), raised):
        found = plain(wrapped, "working")
        assert type(found) is IntegrityError
        assert (found.message, found.extras) == (raised.message, {"path": "x"})
        assert own_error(wrapped, "working") is found


def test_an_error_of_ours_goes_before_what_it_was_raised_from() -> None:
    raised = BadInputError("no documents")
    raised.__cause__ = OSError(errno.ENOSPC, "No space left on device")
    outer = RuntimeError("in between")
    outer.__cause__ = raised
    assert plain(task_error(outer), "working") is raised


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_is_a_fault_of_the_environment(number: int) -> None:
    for error in (
        task_error(OSError(number, "the system's word")),
        TrainingFailedError(OSError(number, "the system's word")),
    ):
        found = plain(error, "making examples")
        assert isinstance(found, EnvironmentFaultError)
        assert "the disk is full while making examples (the system's word)" in found.message
    assert isinstance(own_error(theirs.OutOfDiskError("full"), "x"), EnvironmentFaultError)


def test_other_errors_of_files_and_bugs_keep_their_traceback() -> None:
    for error in (task_error(OSError(errno.ENOENT, "no such file")), task_error(ValueError("a bug"))):
        assert plain(error, "working") is error
        assert own_error(error, "working") is None
        with pytest.raises(theirs.RayTaskError) as caught, plain_errors("working"):
            raise error
        assert caught.value is error
    assert own_error(None, "working") is None


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (theirs.OutOfMemoryError("Task was killed due to the node running low on memory."), "out of memory while"),
        (task_error(MemoryError()), "out of memory while"),
        (
            theirs.ActorUnschedulableError(
                "Could not create the actor because worker startup repeatedly failed.\n"
                "Failed to startup worker after retrying 5 times. This is most often caused by the environment."
            ),
            "could not start a process while building the index (Failed to startup worker after retrying 5 times)",
        ),
        (theirs.WorkerCrashedError(), "a process of the cluster died while"),
        (died_at_its_start(ValueError("no such model")), "no such model"),
        (TrainingFailedError(theirs.NodeDiedError("node 7 is gone")), "node 7 is gone"),
    ],
)  # fmt: skip
def test_what_befell_a_process_is_said_in_one_line(error: BaseException, says: str) -> None:
    found = plain(error, "building the index")
    assert isinstance(found, EnvironmentFaultError)
    assert says in found.message
    assert "building the index" in found.message
    assert "\n" not in found.message
    assert own_error(error, "training") is None, "the caller may know better what to advise"


def test_the_cause_of_an_error_of_remote_code_is_whatever_it_raised() -> None:
    bug = ValueError("a bug")
    assert cause_of(task_error(bug)) is bug
    died = theirs.RayActorError()
    assert cause_of(died) is died


def test_the_block_raises_plain_errors_and_lets_others_pass() -> None:
    with pytest.raises(PlinthError, match="no documents") as caught, plain_errors("working"):
        raise task_error(BadInputError("no documents"))
    assert type(caught.value) is BadInputError
    with pytest.raises(KeyError), plain_errors("working"):
        raise KeyError("not Ray's")
