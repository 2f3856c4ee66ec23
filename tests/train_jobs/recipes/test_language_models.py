"""Chat, preferences, distillation and privacy on a tiny Llama: what is learnt, and that the losses are the papers'."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path

import numpy as np
import pytest

from actors.registry.runs import list_runs, read_metrics
from cluster.core.config import PlinthConfig
from cluster.core.errors import UsageError
from cluster.core.progress import Silent
from cluster.core.storage import Store
from tests.train_jobs.corpora import PARTS, SECTION, make_dataset
from tests.train_jobs.recipes.in_process import InProcess
from tests.train_jobs.recipes.language_models import make_checkpoint
from train_jobs.data.certificate import check

pytestmark = pytest.mark.process  # torch takes seconds to import


@pytest.fixture
def store(home, tmp_path) -> Store:
    return Store(str(tmp_path / "store"))


def config(steps: int, **changes: object) -> PlinthConfig:
    return PlinthConfig(train=SECTION.model_copy(update={"steps": steps, **changes}))


def conversations(path: Path, count: int = 120) -> str:
    rng, rows = random.Random(0), []
    for number in range(count):
        part, other = rng.choice(PARTS), rng.choice(PARTS)
        rows.append({"split": "test" if number % 4 == 0 else "train", "messages": [
            {"role": "system", "content": "be brief"}, {"role": "user", "content": f"Replace the {part}."},
            {"role": "assistant", "content": f"the {part}"},
            {"role": "user", "content": [{"type": "text", "text": other}]},
            {"role": "assistant", "content": f"the {other}"},
        ]})  # fmt: skip
    rows += [{"messages": [{"role": "user", "content": "x"}]}, {"messages": [{"role": "robot", "content": "x"}]},
             {"messages": [{"role": "user", "content": "<|eos|>"}, {"role": "assistant", "content": "y"}]},
             {"messages": [{"role": "user", "content": "word " * 80}, {"role": "assistant", "content": "z"}]},
    ]  # fmt: skip
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_chat_learns_what_the_assistant_says_and_publishes_its_template(store: Store, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from train_jobs.recipes.chat import train_chat

    base, data = make_checkpoint(store), conversations(tmp_path / "chat.jsonl")
    made = train_chat(config(100), store, data, base, "talk", Silent(), rate=1e-2, workers=InProcess())
    counts = made.counts
    assert counts["refused_rows"] == 4
    assert [text.split(": ", 1)[1][:40] for text in counts["refused"]] == [
        "the assistant says nothing", "messages[0] has the role 'robot', and mu",
        "a user message holds the control token <", "it has 325 tokens, and the model reads 64"[:40],
    ]  # fmt: skip
    assert counts["held_out_loss_at_start"] > 5
    assert counts["held_out_loss"] < 0.6
    assert counts["learnt_tokens"] < counts["train_tokens"] / 2
    assert counts["packed_rows"] < counts["train_rows"]  # several conversations share a row
    taken = store.read_json(f"{store.artefact(made)}/order.json")
    assert check(taken) == []
    assert (taken["steps"], taken["corpora"][0]["windows"]) == (100, counts["packed_rows"])
    tokenizer = AutoTokenizer.from_pretrained(store.artefact(made))
    model = AutoModelForCausalLM.from_pretrained(store.artefact(made))
    asked = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "Replace the valve."}]
    text = tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True)
    ids = tokenizer(text, add_special_tokens=False, return_tensors="pt").input_ids
    said = model.generate(input_ids=ids, max_new_tokens=8, do_sample=False)[0, ids.shape[1] :]
    assert tokenizer.decode(said, skip_special_tokens=True) == "the valve"


def test_packed_texts_give_the_loss_of_each_text_alone_and_every_text_is_taken_once() -> None:
    import torch

    from train_jobs.data.texts import flat
    from train_jobs.models.shape import Shape
    from train_jobs.models.spec import LlamaSpec
    from train_jobs.objectives.chat import Packed, summed_loss

    rng = np.random.default_rng(0)
    rows = [rng.integers(5, 60, int(size)).tolist() for size in rng.integers(2, 20, 23)]
    arrays = {**flat(rows), "learn": rng.integers(0, 2, sum(map(len, rows))).astype(np.int8)}
    network = LlamaSpec(Shape(60, 16, 2, 2, 1, 32, 32)).build(0)
    packed, alone = Packed(arrays, 32, 64, 0, 0), Packed(arrays, 32, 64, 0, 0, alone=True)
    assert sorted(text for row in packed.rows for text in row) == list(range(23))
    assert all(sum(len(rows[text]) for text in row) <= 32 for row in packed.rows)
    assert len(packed) < 12
    with torch.no_grad():
        sums = [sum(float(summed_loss(network, b)) for b in one.in_order() if len(b.where)) for one in (packed, alone)]
        logits = [network(torch.tensor([row]))[0] for row in rows]
    by_hand, at = 0.0, 0
    for row, scores in zip(rows, logits, strict=True):
        for place in range(1, len(row)):
            if arrays["learn"][at + place]:
                by_hand -= float(scores[place - 1].log_softmax(0)[row[place]])
        at += len(row)
    assert sums == pytest.approx([by_hand, by_hand], rel=1e-5)
    epoch = [packed.batch(step, rank, 2) for step in range(packed.steps_per_epoch) for rank in (0, 1)]
    assert sum(len(batch.where) for batch in epoch) == sum(batch.total for batch in epoch[::2])


def test_preferences_are_learnt_and_the_loss_is_dpo(store: Store, tmp_path: Path) -> None:
    import torch

    from train_jobs.objectives.preference import PreferencePairs, dpo, log_probabilities
    from train_jobs.recipes.preference import train_preference

    rng, rows = random.Random(0), []
    for number in range(80):
        part = rng.choice(PARTS)
        answers = [f"yes, the {part}", f"no, not the {part}"]
        rows.append({"prompt": f"Inspect the {part}? {number}", "chosen": answers[0], "rejected": answers[1],
                     "split": "test" if number % 4 == 0 else "train"})  # fmt: skip
    rows.append({"prompt": "x", "chosen": "same", "rejected": "same"})
    data = tmp_path / "pairs.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    base = make_checkpoint(store)
    made = train_preference(config(25), store, str(data), base, "kind", Silent(), rate=3e-3, workers=InProcess())
    counts = made.counts
    assert counts["refused"] == ["line 81: chosen and rejected are the same"]
    assert counts["held_out_loss_at_start"] == pytest.approx(math.log(2), abs=1e-3)  # it is its own reference
    assert counts["held_out_loss"] < 0.4
    assert counts["held_out_accuracy"] > 0.95

    from train_jobs.distributed.ranks import Ranks
    from train_jobs.models.shape import Shape
    from train_jobs.models.spec import LlamaSpec

    shape = Shape(40, 16, 1, 2, 2, 32, 32)
    reference, policy = (LlamaSpec(shape).build(seed) for seed in (1, 2))
    chosen, rejected, prompts = [[1, 5, 6, 7], [1, 9, 2]], [[1, 5, 8], [1, 9, 3, 4]], [2, 2]
    from train_jobs.data.texts import flat

    arrays = {}
    for name, texts in (("chosen", chosen), ("rejected", rejected)):
        arrays |= {f"{name}.{k}": v for k, v in {**flat(texts), "prompts": np.array(prompts)}.items()}
    pairs = PreferencePairs(arrays, 2, 0, 0, 0.3)
    pairs.measure_reference(reference, Ranks())
    (batch,) = pairs.in_order()

    def by_hand(network: torch.nn.Module, text: list[int], prompt: int) -> float:
        scores = network(torch.tensor([text]))[0].log_softmax(-1)
        return sum(float(scores[place - 1, text[place]]) for place in range(prompt, len(text)))

    with torch.no_grad():
        loss, margin = dpo(log_probabilities(policy, batch), batch.reference, 0.3)
        for row in range(2):
            wins, losses = (
                by_hand(policy, text[row], 2) - by_hand(reference, text[row], 2) for text in (chosen, rejected)
            )
            assert float(margin[row]) == pytest.approx(0.3 * (wins - losses), abs=1e-4)
            assert float(loss[row]) == pytest.approx(math.log(1 + math.exp(-0.3 * (wins - losses))), abs=1e-4)


@pytest.mark.slow
@pytest.mark.ci
def test_a_student_learns_more_with_its_teacher(store: Store) -> None:
    import torch

    from train_jobs.objectives.distillation import distilled
    from train_jobs.recipes.distill import both_sides, distill, documents_of, sampled
    from train_jobs.recipes.language_model import files_of, open_model
    from train_jobs.recipes.training import Request, Training, carry_out

    dataset = make_dataset(store)
    section = config(80, hidden=64, mlp=128).train
    untaught = open_model(store, make_checkpoint(store, "untaught", hidden=64, mlp=128))
    read = both_sides(documents_of(store, dataset, untaught, section.held_out, section.context_tokens))
    teacher = carry_out(
        Training(
            Request("chat", "checkpoints", "teacher", "teacher", {}, {}), {}, untaught.model, read, 0, None, 1e-2, 80,
            lambda finished: (files_of(finished, store, untaught), {}), 1, 1,
        ),
        section, store, Silent(), InProcess(),
    )  # fmt: skip
    made = distill(config(50), store, teacher, dataset, "student", Silent(), rate=1e-2, written=4, workers=InProcess())
    counts = made.counts
    assert counts["held_out_loss"] < counts["held_out_loss_without_teacher"] - 0.05
    assert counts["held_out_loss_without_teacher"] < counts["held_out_loss_at_start"] - 1
    assert counts["written_tokens"] > 4 * 10
    generator = torch.Generator().manual_seed(0)
    student, taught = (torch.randn(3, 5, generator=generator) for _ in range(2))
    targets = torch.tensor([0, 3, 2])
    wanted = 0.0
    for row in range(3):
        p, q = (taught[row] / 2).softmax(0), (student[row] / 2).softmax(0)
        wanted += 0.7 * 4 * float((p * (p / q).log()).sum()) - 0.3 * float(student[row].log_softmax(0)[targets[row]])
    assert float(distilled(student, taught, targets, 0.7, 2.0)) == pytest.approx(wanted, rel=1e-5)

    class Counting(torch.nn.Module):
        """Says of every token that the next number follows."""

        def forward(self, ids: torch.Tensor, where: torch.Tensor) -> torch.Tensor:
            return torch.nn.functional.one_hot(ids.reshape(-1)[where] + 1, 9).float() * 1e4

    assert sampled(Counting(), 1, 5, 2, 10, 0) == [[1, 2, 3, 4, 5]] * 2
    assert sampled(Counting(), 1, 8, 1, 4, 0) == [[1, 2, 3, 4]]


@pytest.mark.slow
@pytest.mark.ci
def test_private_chat_tells_what_it_spends_and_what_it_costs(store: Store, tmp_path: Path) -> None:
    from train_jobs.recipes.chat import train_chat
    from train_jobs.recipes.preference import train_preference
    from train_jobs.trainer.privacy import epsilon_of

    base, data = make_checkpoint(store), conversations(tmp_path / "chat.jsonl")
    made = train_chat(config(30, dp_epsilon=8.0, batch_tokens=512), store, data, base, "talk", Silent(), rate=1e-2,
                      workers=InProcess())  # fmt: skip
    counts = made.counts
    assert 7.5 < counts["epsilon"] <= 8.0
    assert counts["delta"] == pytest.approx(0.1 / 90)
    assert counts["held_out_loss_without_privacy"] < counts["held_out_loss"] < counts["held_out_loss_at_start"]
    rows = [json.loads(line) for line in Path(store.artefact(made), "metrics.jsonl").read_text().splitlines()]
    assert all(row["train_loss"] is None for row in rows)
    runs = [run for run in list_runs(store) if run.id.startswith("chat-")]
    assert len(runs) == 2, "the private one and the one it is compared with"
    for row in (row for run in runs for row in read_metrics(store, run.id)):
        assert row.get("train_loss") is None
        assert not {"gradient_norm", "bits_per_byte"} & row.keys()
    assert epsilon_of(counts["noise"], 0.2, 30, 0.1 / 90) > 0
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text("".join(
        json.dumps({"prompt": f"p{n}", "chosen": "a", "rejected": "b", "split": side}) + "\n"
        for n, side in enumerate(("train", "test") * 2)
    ))  # fmt: skip
    with pytest.raises(UsageError, match="preference cannot be trained privately"):
        train_preference(config(2, dp_epsilon=8.0), store, str(pairs), base, "x", Silent(), workers=InProcess())
