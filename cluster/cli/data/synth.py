"""plinth data synth and tokens: synthetic rows, and token shards, out of a dataset."""

from __future__ import annotations

from cluster.cli.jobs import job_verb
from cluster.cli.output import console, print_table
from cluster.cli.verbs import Commands
from cluster.core.records import Manifest


def register(group: Commands) -> None:
    """Declare the jobs ``plinth data synth`` and ``plinth data tokens``."""
    from data_jobs import commands as jobs

    job_verb(
        group, "synth", "data_jobs", "synth", jobs.add_synth_arguments, jobs.run_synth, print_synthetic,
        "Make synthetic questions, answers with passages, and paraphrases out of a dataset.",
        "Rules make them, no language model. Each row is tagged `synthetic` and names its document, span, rule and\n"
        "seed; what the filters left out is counted by reason. More rows than --share allows beside the real\n"
        "documents are refused (exit code 4); without --count as many are made as it allows.\n\n"
        "Example: plinth data synth --dataset handbook --count 500 --share 0.3",
    )  # fmt: skip
    job_verb(
        group, "tokens", "data_jobs", "tokens", jobs.add_tokens_arguments, jobs.run_tokens, print_tokens,
        "Tokenise a dataset into packed shards for pretraining.",
        "Each documents file becomes one stream of token ids (.npy), every document followed by the end token, and\n"
        "the places where documents start. The same dataset and tokenizer give the same bytes.\n\n"
        "Example: plinth data tokens --dataset handbook --tokenizer small",
    )  # fmt: skip


def print_tokens(made: Manifest) -> None:
    """One sentence about token shards: how many tokens, documents and shards, and the type of the numbers."""
    counts = made.counts
    console.print(
        f"[bold]{made.name}@{made.version}[/bold] (tokens) of {made.inputs['dataset']}: {counts['tokens']:,} tokens of "
        f"{counts['documents']:,} documents in {counts['shards']} shards ({counts['dtype']})"
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
