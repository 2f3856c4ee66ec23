"""A model that has learnt to chat from conversations: the assistant's tokens only, packed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from cluster.core.config import PlinthConfig
from cluster.core.progress import Progress
from cluster.core.records import Manifest
from cluster.core.run_keys import RunKey
from cluster.core.sections.train import TrainSection
from cluster.core.storage import Store
from train_jobs.data.batches import Arrays
from train_jobs.data.texts import flat, part
from train_jobs.objectives.chat import Packed
from train_jobs.publishing.artefact import KIND
from train_jobs.recipes.language_model import open_model
from train_jobs.recipes.rows import BadRowError, Row, Rows, read_rows
from train_jobs.recipes.training import KEY_INSIDE, KEY_OUTSIDE, Request, Training, begin, carry_out, request, steps_of
from train_jobs.recipes.turns import Turns, messages_of
from train_jobs.trainer.unfinished import CodeChange

if TYPE_CHECKING:
    from typing import Any

    from train_jobs.launch import TrainingWorkers

KEY = RunKey("chat", (__name__,), inside=KEY_INSIDE, outside=KEY_OUTSIDE)
RATE, EPOCHS = 1e-4, 2.0


def train_chat(
    config: PlinthConfig, store: Store, data: str, base: Manifest, name: str, progress: Progress,
    epochs: float = EPOCHS, rate: float = RATE, workers: TrainingWorkers | None = None, code_change: CodeChange = None,
) -> Manifest:  # fmt: skip
    """Fine-tune a checkpoint on {messages} rows and publish ``checkpoints/<name>`` with its chat template.

    Conversations that are longer than the model's context are refused by row. With ``train.dp_epsilon`` each
    conversation is protected.

    Raises:
        BadInputError: too few good rows, or a model without chat template.
        PlinthError: what ``open_model`` and ``carry_out`` raise.
    """
    section = config.train
    turns = Turns(store, open_model(store, base))

    def parse(row: Mapping[str, Any]) -> Row:
        messages = messages_of(row.get("messages"))
        if all(message["role"] != "assistant" for message in messages):
            raise BadRowError("the assistant says nothing")
        return conversation(turns, messages)

    progress.stage("tokenise")
    rows = read_rows(data, parse, section.held_out)
    inputs = {"data": rows.reference, "base": turns.base.reference}
    asked = request(KEY, "chat", KIND, name, inputs, section, code_change, epochs=epochs, rate=rate)
    return learn(section, store, asked, rows, turns, progress, epochs, rate, workers)


def conversation(turns: Turns, messages: Sequence[Mapping[str, str]]) -> Row:
    """The row of a conversation.

    Raises:
        BadRowError: it is too long, or as ``Turns.encode``.
    """
    ids, learn = turns.encode(messages)
    if len(ids) > turns.base.model.context:
        raise BadRowError(f"it has {len(ids)} tokens, and the model reads {turns.base.model.context}")
    key = next((m["content"] for m in messages if m["role"] == "user"), messages[0]["content"])
    return {"key": key, "ids": ids, "learn": learn}


def learn(
    section: TrainSection, store: Store, asked: Request, rows: Rows, turns: Turns, progress: Progress,
    epochs: float, rate: float, workers: TrainingWorkers | None = None,
) -> Manifest:  # fmt: skip
    """Fine-tune the model of ``turns`` on rows of ``conversation``, or find that done.

    Raises:
        PlinthError: what ``begin`` and ``carry_out`` raise.
    """
    if (found := begin(store, asked)) is not None:
        return found
    model = turns.base
    arrays = rows.arrays(arrays_of)
    train, alone = part(arrays, "train"), section.dp_epsilon > 0
    batches = Packed(train, model.model.context, section.batch_tokens, section.seed, model.pad, alone)
    counts = {"train_tokens": len(train["ids"]), "learnt_tokens": int(train["learn"].sum())}
    return carry_out(
        Training(
            asked, {**rows.counts, **counts, "packed_rows": len(batches)}, model.learning(section), arrays, model.pad,
            None, rate, steps_of(section, batches.steps_per_epoch, epochs),
            lambda finished: (turns.files_of(finished), {}), len(batches), batches.size, base=model.manifest,
            protects=True,
        ),
        section, store, progress, workers,
    )  # fmt: skip


def arrays_of(rows: list[Row]) -> Arrays:
    """The arrays of ``Packed``."""
    learn = np.fromiter((one for row in rows for one in row["learn"]), dtype=np.int8)
    return {**flat([row["ids"] for row in rows]), "learn": learn}
