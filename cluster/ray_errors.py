"""What Ray, Ray Data and Ray Train wrap around an error, taken off again: the only place that knows how.

An error that remote code raises arrives as the ``cause`` of a RayTaskError (of a class that is made up for it and is
also one of the cause's), from Ray Train in ``worker_failures``. What happens to a process (killed, out of memory) has
no cause but Ray's own word for it. Ray Data puts a UserCodeException between, which loses the cause on its way to the
driver: ``data_errors_as_raised`` keeps it from doing so.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Iterator
from contextlib import contextmanager

from ray.exceptions import (
    ActorUnschedulableError,
    LocalRayletDiedError,
    NodeDiedError,
    ObjectLostError,
    OutOfDiskError,
    OutOfMemoryError,
    RayActorError,
    RayError,
    RayTaskError,
    UserCodeException,
    WorkerCrashedError,
)

from cluster.core.errors import EnvironmentFaultError, PlinthError

_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_DIED = (RayActorError, WorkerCrashedError, NodeDiedError, LocalRayletDiedError, ObjectLostError)


@contextmanager
def plain_errors(doing: str) -> Iterator[None]:
    """Raise what Ray raises in this block as ``plain`` has it; ``doing`` completes "the disk is full while ...".

    Raises:
        PlinthError: the remote code's own, or an EnvironmentFaultError for what befell its process.
        RayError: anything else, which is a bug: its text has the remote traceback.
    """
    try:
        yield
    except RayError as error:
        raise plain(error, doing) from None


def plain(error: BaseException, doing: str) -> BaseException:
    """``error`` as one of ours where it can be said in one line what happened, else as it is."""
    found = own_error(error, doing)
    if found is not None:
        return found
    for one in _chain(error):
        if isinstance(one, OutOfMemoryError | MemoryError):
            return EnvironmentFaultError(
                f"the machine ran out of memory while {doing}: use fewer CPUs (cluster.cpus) or free some memory, then "
                "run the same command again"
            )
        if isinstance(one, _DIED):
            return EnvironmentFaultError(
                f"a process of the cluster died while {doing} ({_last_line(one)}): most often the machine is short of "
                "memory; the same command goes on where it stopped"
            )
        if isinstance(one, ActorUnschedulableError):
            why = _last_line(one).split(". ")[0]
            return EnvironmentFaultError(
                f"Ray could not start a process while {doing} ({why}): most often the machine is too busy; the same "
                "command goes on where it stopped"
            )
    return error


def own_error(error: BaseException | None, doing: str) -> PlinthError | None:
    """The PlinthError that remote code raised, or one for the full disk it met; None for everything else."""
    if error is None:
        return None
    cause = cause_of(error)
    if isinstance(cause, PlinthError):
        return cause
    for one in _chain(error):
        if isinstance(one, OutOfDiskError) or (isinstance(one, OSError) and one.errno in _NO_SPACE):
            what = one.strerror if isinstance(one, OSError) else "Ray's object store has no room left"
            return EnvironmentFaultError(
                f"the disk is full while {doing} ({what}): free some space, then run the same command again"
            )
    return None


def cause_of(error: BaseException) -> BaseException:
    """What remote code raised: the first PlinthError, else the first error that wraps none; else ``error``."""
    raised = [one for one in _chain(error) if not _wraps(one)]
    return next((one for one in raised if isinstance(one, PlinthError)), raised[0] if raised else error)


def data_errors_as_raised() -> None:
    """Have Ray Data pass on what its tasks raise in datasets that are made from now on, and keep quiet meanwhile.

    It would print each such error with its own frames, a progress bar, and the plan it executes.
    """
    from ray.data import DataContext

    context = DataContext.get_current()
    context.raise_original_map_exception = True
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    for name in ("ray.data", "ray.data.dataset"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


def _wraps(error: BaseException) -> bool:
    return isinstance(error, RayTaskError | UserCodeException) or hasattr(error, "worker_failures")


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error and what it was made of, outermost first."""
    queue: list[object] = [error]
    seen: set[int] = set()
    while queue:
        one = queue.pop(0)
        if isinstance(one, BaseException) and id(one) not in seen:
            seen.add(id(one))
            yield one
            failures = getattr(one, "worker_failures", None)
            queue += [getattr(one, "cause", None), one.__cause__, *(failures.values() if failures else ())]


def _last_line(error: BaseException) -> str:
    """Where a process could not start, its traceback ends with the reason."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:200] if lines else type(error).__name__
