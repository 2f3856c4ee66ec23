"""``python -m train_jobs tokenizer|pretrain|examples|finetune|gate|model|plan``: the entry point of Ray jobs."""

from __future__ import annotations

from cluster.core.entry import leave
from cluster.core.job_verbs import main_of
from cluster.job_book import entered
from train_jobs.commands import JOBS

if __name__ == "__main__":
    leave(main_of("train_jobs", "Training jobs on a running Ray cluster.", JOBS, entered))
