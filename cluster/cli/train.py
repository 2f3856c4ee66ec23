"""plinth train: tokenizer, pretraining, fine-tuning."""

from __future__ import annotations

from cluster.cli.jobs import job_verb
from cluster.cli.output import console, print_table
from cluster.cli.verbs import Commands, add_group
from cluster.core.records import Manifest

DETAILS = (
    "Ctrl-C or SIGTERM writes a checkpoint; the same command goes on from there, also after a kill -9.\n"
    "A finished identical run is reused. `plinth runs list` shows what runs, `plinth runs cancel` stops it."
)


def register(commands: Commands) -> None:
    from train_jobs import commands as jobs

    group = add_group(commands, "train", "Train a model of your own.")
    job_verb(group, "tokenizer", "train_jobs", "tokenizer", jobs.add_tokenizer_arguments, jobs.run_tokenizer,
             print_made, "Train a byte-level BPE tokenizer on a dataset.")  # fmt: skip
    job_verb(group, "pretrain", "train_jobs", "pretrain", jobs.add_pretrain_arguments, jobs.run_pretrain,
             print_made, "Pretrain a small Llama model on a dataset, with Ray Train.", DETAILS)  # fmt: skip
    job_verb(group, "finetune", "train_jobs", "finetune", jobs.add_finetune_arguments, jobs.run_finetune,
             print_made, "Fine-tune a pretrained model for grounded answering.", DETAILS)  # fmt: skip


def print_made(made: Manifest) -> None:
    console.print(f"[bold]{made.kind} {made.name}@{made.version}[/bold] from {', '.join(made.inputs.values())}")
    rows = [(name.replace("_", " "), _shown(value)) for name, value in made.counts.items()]
    print_table("", ("", "value"), rows, numeric=("value",))


def _shown(value: object) -> str:
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.3f}" if isinstance(value, float) else str(value)
