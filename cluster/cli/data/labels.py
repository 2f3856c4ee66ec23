"""plinth data labels: which rows of a labelled set are probably labelled wrong."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cluster.cli.output import Stages, console, print_json, print_table
from cluster.cli.verbs import Commands, add_group, add_verb
from cluster.core.errors import EnvironmentFaultError, ExitCode, UsageError

if TYPE_CHECKING:
    from data_jobs.filters.labels import LabelReport

CUTS = (10, 50, 100, 200, 500, 1000)


def register(group: Commands) -> None:
    """Declare ``plinth data labels check``: the file and its fields, how it is judged, where suspects go."""
    labels = add_group(group, "labels", "Check the labels of a labelled set.")
    parser = add_verb(
        labels, "check", check, "Rank the rows whose label is probably wrong (confident learning).",
        "A classifier judges every row out of fold; rows it contradicts more confidently than it usually agrees\n"
        "are listed, the surest first, with the label it suggests. Read them before changing labels.\n"
        "With --flip SHARE that share of the labels is replaced at random first, and the verb says how many of\n"
        "them it finds again: how far to trust the list on this set.\n\n"
        "Example: plinth data labels check intents.jsonl --top 30 --out suspects.jsonl",
    )  # fmt: skip
    parser.add_argument("file", type=Path, help="a .jsonl file, one labelled row per line")
    parser.add_argument("--text", default="text", metavar="FIELD", help="field with the text (default: text)")
    parser.add_argument("--label", default="label", metavar="FIELD", help="field with the label (default: label)")
    parser.add_argument("--top", type=int, default=20, metavar="K", help="rows to show (default 20); --out has all")
    parser.add_argument("--out", type=Path, help="where all suspects go (default: FILE's name with .suspects.jsonl)")
    parser.add_argument("--folds", type=int, default=5, help="folds of the cross-validation (default 5)")
    parser.add_argument("--seed", type=int, default=0, help="seed of folds and flips (default 0)")
    parser.add_argument("--flip", type=float, default=0.0, metavar="SHARE", help="replace this share of labels first")


def check(args: argparse.Namespace) -> int:
    """Print the ``--top`` surest suspects and write all of them to ``--out``, ranked, as JSON lines; exit code 0.

    With ``--flip`` also how many of the labels replaced before were found again.

    Raises:
        UsageError: a number is out of range.
        BadInputError: no row of the file can be used.
        EnvironmentFaultError: ``--out`` cannot be written.
    """
    from data_jobs.filters.labels import check_labels, flip_labels, read_labelled, score

    if args.top < 0 or args.folds < 2 or not 0 <= args.flip < 1:
        raise UsageError("--top must be 0 or more, --folds 2 or more, --flip from 0 up to 1")
    stages = Stages(show=not args.json)
    rows, bad = read_labelled(args.file, args.text, args.label)
    wrong: set[int] = set()
    if args.flip:
        rows, wrong = flip_labels(rows, args.flip, args.seed)
    with stages.run("check labels"):
        report = check_labels(rows, stages, args.folds, args.seed, bad)
    out = args.out or Path(f"{args.file.stem}.suspects.jsonl")
    _write(out, report)
    found = score(report.suspects, wrong, len(rows), (*CUTS, len(wrong))) if wrong else None
    if args.json:
        shown = [one.to_dict() for one in report.suspects[: args.top]]
        print_json({**report.to_dict(), "out": str(out), "top": shown, "flipped": found})
    else:
        _show(report, args.top, out, found)
    return ExitCode.DONE


def _write(out: Path, report: LabelReport) -> None:
    body = "".join(json.dumps({"rank": n, **s.to_dict()}, ensure_ascii=False) + "\n"
                   for n, s in enumerate(report.suspects, start=1))  # fmt: skip
    try:
        out.write_text(body, encoding="utf-8")
    except OSError as error:
        raise EnvironmentFaultError(f"cannot write {out}: {error.strerror}; give --out another place") from error


def _show(report: LabelReport, top: int, out: Path, found: dict[str, Any] | None) -> None:
    console.print(
        f"{report.rows:,} rows, {len(report.classes)} classes; out of fold {report.accuracy:.1%} as labelled; "
        f"about {report.noise:.1%} of the labels are wrong; {len(report.suspects):,} suspects in {out}"
    )
    rows = [
        (n, s.line, f"{s.margin:+.3f}", s.given, s.suggested, s.text[:80].replace("\n", " "))
        for n, s in enumerate(report.suspects[:top], start=1)
    ]
    columns = ("rank", "line", "margin", "given", "suggested", "text")
    if rows:
        print_table("Probably labelled wrong", columns, rows, numeric=columns[:3])
    confused = [
        (share, true, given)
        for true, shares in report.noise_matrix.items() for given, share in shares.items() if given != true
    ]  # fmt: skip
    names = ("true", "given", "share")
    worst = [(true, given, f"{share:.1%}") for share, true, given in sorted(confused, reverse=True)[:8]]
    if worst:
        print_table(
            "Likeliest confusions (share of a true label that is given as another)", names, worst, numeric=("share",)
        )
    if report.quarantined:
        bad = [(q.source, q.reason, q.detail) for q in report.quarantined[:10]]
        print_table(f"Unusable rows ({len(report.quarantined)})", ("row", "reason", "detail"), bad)
    if found:
        cuts = [(k, f"{p:.1%}", f"{found['recall_at'][k]:.1%}") for k, p in found["precision_at"].items()]
        title = f"{found['wrong']} labels were flipped on purpose (random order: precision {found['random']:.1%})"
        print_table(title, ("k", "precision@k", "recall@k"), cuts, numeric=("k", "precision@k", "recall@k"))
