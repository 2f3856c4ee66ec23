"""A model that prefers what people preferred: direct preference optimisation on {prompt, chosen, rejected}."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from cluster.core.config import PlinthConfig
from cluster.core.progress import Progress
from cluster.core.records import Manifest
from cluster.core.run_keys import RunKey
from cluster.core.storage import Store
from train_jobs.data.batches import Arrays
from train_jobs.data.texts import flat
from train_jobs.publishing.artefact import KIND
from train_jobs.recipes.language_model import open_model
from train_jobs.recipes.rows import BadRowError, Row, read_rows, text_of
from train_jobs.recipes.training import KEY_INSIDE, KEY_OUTSIDE, Training, begin, carry_out, request, steps_over
from train_jobs.recipes.turns import Turns, messages_of
from train_jobs.trainer.unfinished import CodeChange

if TYPE_CHECKING:
    from train_jobs.launch import TrainingWorkers

KEY = RunKey("preference", (__name__,), inside=KEY_INSIDE, outside=KEY_OUTSIDE)
RATE, EPOCHS, PAIRS, BETA = 5e-6, 1.0, 8, 0.1


def train_preference(
    config: PlinthConfig, store: Store, data: str, base: Manifest, name: str, progress: Progress,
    epochs: float = EPOCHS, rate: float = RATE, pairs: int = PAIRS, beta: float = BETA,
    workers: TrainingWorkers | None = None, code_change: CodeChange = None,
) -> Manifest:  # fmt: skip
    """Tune a checkpoint towards the chosen answers and publish ``checkpoints/<name>``.

    Args:
        data: a JSONL file of {prompt, chosen, rejected}; a prompt is a text or messages, an answer a text.
        pairs: of a step; beta: how closely the model keeps to the base.

    Raises:
        BadInputError: too few good rows, or a model without chat template.
        PlinthError: what ``open_model`` and ``carry_out`` raise.
    """
    section = config.train
    model = open_model(store, base)
    turns = Turns(store, model)

    def parse(row: Mapping[str, Any]) -> Row:
        prompt = row.get("prompt")
        messages = messages_of(prompt, "prompt") if isinstance(prompt, list) else [
            {"role": "user", "content": text_of(row, "prompt")}
        ]  # fmt: skip
        answers = {side: text_of(row, side) for side in ("chosen", "rejected")}
        if answers["chosen"] == answers["rejected"]:
            raise BadRowError("chosen and rejected are the same")
        parsed: Row = {"key": messages[-1]["content"]}
        for side, text in answers.items():
            ids, learn = turns.encode([*messages, {"role": "assistant", "content": text}])
            if len(ids) > model.model.context:
                raise BadRowError(f"{side} has {len(ids)} tokens, and the model reads {model.model.context}")
            # The last turn is the answer; an assistant's earlier ones belong to the prompt.
            prompt_tokens = len(learn) - learn[::-1].index(0) if 0 in learn else 0
            if not 0 < prompt_tokens < len(ids):
                raise BadRowError(f"{side} has no tokens of its own")
            parsed[side] = (ids, prompt_tokens)
        return parsed

    progress.stage("tokenise")
    rows = read_rows(data, parse, section.held_out)
    inputs = {"data": rows.reference, "base": model.reference}
    chosen = {"epochs": epochs, "rate": rate, "pairs": pairs, "beta": beta}
    asked = request(KEY, "preference", KIND, name, inputs, section, code_change, **chosen)
    if (found := begin(store, asked)) is not None:
        return found
    return carry_out(
        Training(
            asked, rows.counts, model.learning(section), rows.arrays(arrays_of), model.pad, None, rate,
            steps_over(section, len(rows.train), pairs, epochs), lambda finished: (turns.files_of(finished), {}),
            len(rows.train), pairs, {"pairs": pairs, "beta": beta}, base=base,
        ),
        section, store, progress, workers,
    )  # fmt: skip


def arrays_of(rows: list[Row]) -> Arrays:
    """The arrays of ``PreferencePairs``."""
    arrays: Arrays = {}
    for side in ("chosen", "rejected"):
        made = {
            **flat([row[side][0] for row in rows]),
            "prompts": np.array([row[side][1] for row in rows], dtype=np.int64),
        }
        arrays |= {f"{side}.{name}": array for name, array in made.items()}
    return arrays
