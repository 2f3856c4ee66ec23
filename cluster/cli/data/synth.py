"""plinth data synth and tokens: synthetic rows, and token shards, out of a dataset."""

from __future__ import annotations

from cluster.cli.jobs import job_verb
from cluster.cli.output import console, print_table
from cluster.cli.verbs import Commands
from cluster.core.records import Manifest


def register(group: Commands) -> None:
    """Declare the jobs ``plinth data synth`` and ``plinth data tokens``."""
    from data_jobs.commands import JOBS

    shown = {"synth": print_synthetic, "tokens": print_tokens}
    for job in JOBS:
        if job.name in shown:
            job_verb(group, "data_jobs", job, shown[job.name])


def print_tokens(made: Manifest) -> None:
    """One sentence about token shards: how many tokens, documents and shards, and the type of the numbers."""
    counts = made.counts
    console.print(
        f"[bold]{made.name}@{made.version}[/bold] (tokens) of {made.inputs['dataset']}: {counts['tokens']:,} tokens of "
        f"{counts['documents']:,} documents in {counts['shards']} shards ({counts['dtype']}); "
        f"{counts['held_out_tokens']:,} of the tokens are held out"
    )


def print_synthetic(made: Manifest) -> None:
    """Of synthetic rows: how many were kept of how many allowed, by rule, and what filters left out."""
    counts = made.counts
    console.print(f"[bold]{made.name}@{made.version}[/bold] (synthetic) of {made.inputs['dataset']}")
    wanted = f"{counts['requested']:,} asked for" if counts["requested"] else "as many as allowed"
    console.print(
        f"{counts['kept']:,} rows of {counts['documents_used']:,} documents, {wanted}; share {counts['share']:.1%} of "
        f"at most {counts['share_cap']:.0%} ({counts['allowed']:,} rows beside {counts['documents']:,} real "
        f"documents); {counts['not_chosen']:,} more were good but not needed"
    )
    print_table("Made by", ("rule", "rows"), list(counts["rules"].items()), numeric=("rows",))
    reasons = sorted(counts["reasons"].items(), key=lambda item: -item[1])
    print_table(f"Left out of {counts['candidates']:,} candidates", ("filter", "rows"), reasons, numeric=("rows",))
