"""One worker's training run: its plan, loop, schedule, precision, checkpoints and outcome."""
