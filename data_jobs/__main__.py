"""``python -m data_jobs prepare|index|synth|tokens``: the entry point of Ray jobs."""

from __future__ import annotations

from cluster.core.entry import leave
from cluster.core.job_verbs import main_of
from cluster.job_book import entered
from data_jobs.commands import JOBS

if __name__ == "__main__":
    leave(main_of("data_jobs", "Data jobs on a running Ray cluster.", JOBS, entered))
