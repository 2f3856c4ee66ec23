"""``python -m train_jobs.evaluation calibrate``: parse and dispatch."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from cluster.core.errors import PlinthError
from train_jobs.evaluation.calibrate import calibrate


def main() -> int:
    """Run the verb of the command line; returns the exit code. A PlinthError is told in one line on stderr."""
    parser = argparse.ArgumentParser(prog="python -m train_jobs.evaluation")
    verbs = parser.add_subparsers(dest="verb", required=True)
    fit = verbs.add_parser("calibrate", help="fit the abstention model of the quote tier")
    fit.add_argument("--data", type=Path, required=True, help="folder with the data sets")
    fit.add_argument("--cache", type=Path, help="folder to keep vectors in between runs")
    fit.add_argument("--write", action="store_true", help="write data_jobs/retrieval/*_model.json")
    arguments = parser.parse_args()
    try:
        calibrate(arguments.data, arguments.cache, arguments.write)
    except PlinthError as error:
        print(f"error: {error.message}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
