"""How a verb ends whose job was submitted."""

from __future__ import annotations

import pytest

from cluster.submit import exit_code


@pytest.mark.parametrize(("status", "code", "message", "ends", "said"), [
    ("SUCCEEDED", 0, "Job finished successfully.", 0, ""),
    ("FAILED", 3, "Job entrypoint command failed with exit code 3", 3, ""),
    ("STOPPED", None, "Job was intentionally stopped.", 130, "plinth: j1 was stopped; finished work is kept"),
    ("STOPPED", -15, "Job was intentionally stopped.", 130, "plinth: j1 was stopped; finished work is kept"),
    ("FAILED", None, "The node of the job died.", 1, "plinth: j1 ended as FAILED: The node of the job died."),
    ("FAILED", None, None, 1, "plinth: j1 ended as FAILED: Ray does not say why"),
])  # fmt: skip
def test_a_job_that_has_no_exit_code_of_its_own_says_why(
    status: str, code: int | None, message: str | None, ends: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code("j1", status, code, message) == ends
    told = capsys.readouterr().err
    assert told.startswith(said) if said else not told
