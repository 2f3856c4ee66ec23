"""DP-SGD: per-sample gradients are right, clipped and noised as said, and the accountant is opacus'."""

from __future__ import annotations

import numpy as np
import pytest

from cluster.core.errors import UsageError

pytestmark = pytest.mark.process  # torch takes seconds to import


def packed():
    from train_jobs.data.texts import flat
    from train_jobs.objectives.chat import Packed

    rng = np.random.default_rng(0)
    rows = [rng.integers(5, 60, int(size)).tolist() for size in rng.integers(3, 20, 40)]
    arrays = {**flat(rows), "learn": np.ones(sum(map(len, rows)), dtype=np.int8)}
    return Packed(arrays, 32, 64, 0, 0, alone=True)


def llama(seed: int = 0):
    from train_jobs.models.shape import Shape
    from train_jobs.models.spec import LlamaSpec

    return LlamaSpec(Shape(60, 16, 2, 4, 2, 32, 32)).build(seed)


def one_by_one(network, objective, rows):
    """Each row's gradient by an ordinary backward pass of that row alone."""
    found = []
    for number in range(len(rows[0])):
        network.zero_grad()
        objective.loss_of_row(network, *(part[number] for part in rows)).backward()
        found.append({name: weight.grad.clone() for name, weight in network.named_parameters()})
    return found


def test_gradients_of_rows_are_those_of_each_row_alone_on_the_own_llama() -> None:
    from train_jobs.objectives.chat import Chat
    from train_jobs.trainer.privacy import gradients_of_rows

    network, objective = llama(), Chat()
    rows = objective.private_rows(packed().of_rows(np.arange(6)))
    together, losses = gradients_of_rows(network, objective, rows)
    for number, alone in enumerate(one_by_one(network, objective, rows)):
        for name, gradient in alone.items():
            assert float((together[name][number] - gradient).abs().max()) < 1e-5 * max(1.0, float(gradient.abs().max()))
        assert float(losses[number]) == pytest.approx(
            float(objective.loss_of_row(network, *(part[number] for part in rows)).detach()), rel=1e-5
        )


def test_gradients_of_rows_are_those_of_each_row_alone_on_a_classifier() -> None:
    from train_jobs.data.texts import flat
    from train_jobs.models.encoders import EncoderSpec
    from train_jobs.objectives.classification import LabelledTexts, Labels
    from train_jobs.trainer.privacy import gradients_of_rows

    settings = {"model_type": "bert", "vocab_size": 50, "hidden_size": 16, "num_attention_heads": 2,
                "num_hidden_layers": 2, "intermediate_size": 32, "max_position_embeddings": 12}  # fmt: skip
    network = EncoderSpec(settings, head="labels", labels=3).build(1)
    texts = LabelledTexts({**flat([[1, 2, 3], [4, 5], [6, 7, 8, 9]]), "labels": np.array([0, 2, 1])}, 3, 0, 0)
    rows = Labels().private_rows(texts.of_rows(np.arange(3)))
    together, _ = gradients_of_rows(network, Labels(), rows)
    for number, alone in enumerate(one_by_one(network, Labels(), rows)):
        for name, gradient in alone.items():
            assert float((together[name][number] - gradient).abs().max()) < 1e-5


@pytest.mark.parametrize("at_once", [1, 1 << 30], ids=["row by row", "all at once"])
def test_no_row_s_gradient_is_longer_than_the_clip(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from train_jobs.objectives.chat import Chat
    from train_jobs.trainer import privacy

    monkeypatch.setattr(privacy, "MOST_BYTES", at_once)
    network, objective = llama(), Chat()
    rows = objective.private_rows(packed().of_rows(np.arange(5)))
    alone = one_by_one(network, objective, rows)
    lengths = [float(torch.stack([g.norm() for g in one.values()]).norm()) for one in alone]
    clip = sorted(lengths)[2]  # some are shortened, some are not
    summed, _ = privacy.clipped_sum(network, objective, rows, clip)
    for name in summed:
        wanted = sum(one[name] * min(1.0, clip / length) for one, length in zip(alone, lengths, strict=True))
        assert torch.allclose(summed[name], wanted, atol=1e-5)


def test_noise_has_the_scale_it_says_and_is_the_same_on_every_worker() -> None:
    import torch

    from train_jobs.distributed.ranks import Ranks
    from train_jobs.objectives.chat import Chat
    from train_jobs.trainer.privacy import Poisson, Privacy, PrivateSteps

    privacy = Privacy(8.0, 1e-5, noise=50.0, clip=0.5, chance=0.25, seed=7)
    batches = packed()
    steps = PrivateSteps(privacy, Chat(), Ranks(), 10.0)
    network = llama()
    empty = batches.of_rows(np.zeros(0, dtype=np.int64))
    assert float(steps.backward(network, empty, 3)) == 0  # no row was drawn: all that is left is noise
    drawn = torch.cat([weight.grad.flatten() for weight in network.parameters()])
    assert float(drawn.std()) == pytest.approx(50 * 0.5 / 10, rel=0.03)
    assert abs(float(drawn.mean())) < 0.05
    full = batches.of_rows(np.arange(8))
    steps.backward(network, full, 3)
    with_rows = torch.cat([weight.grad.flatten() for weight in network.parameters()])
    assert float((with_rows - drawn).norm()) <= 8 * 0.5 / 10 + 1e-5  # eight rows of at most the clip

    # Two workers: each adds its rows, the noise comes once.
    class Two(Ranks):
        def add(self, tensor: torch.Tensor) -> torch.Tensor:
            return tensor + others.pop(0)

    for rank in (0, 1):
        summed, _ = _sums(network, batches.of_rows(np.arange(8), 1 - rank, 2), privacy.clip)
        others = list(summed.values())
        mine = batches.of_rows(np.arange(8), rank, 2)
        PrivateSteps(privacy, Chat(), Two(rank, 2), 10.0).backward(network, mine, 3)
        assert torch.allclose(torch.cat([w.grad.flatten() for w in network.parameters()]), with_rows, atol=1e-5)

    poisson = Poisson(batches, 0.25, 11)
    sizes = [len(np.unique(poisson.batch(step).where)) and len(poisson.batch(step).ids) for step in range(200)]
    assert np.mean(sizes) == pytest.approx(10, abs=0.7)
    assert np.var(sizes) == pytest.approx(40 * 0.25 * 0.75, rel=0.4)  # a binomial number of rows


def _sums(network, batch, clip):
    from train_jobs.objectives.chat import Chat
    from train_jobs.trainer.privacy import clipped_sum

    return clipped_sum(network, Chat(), Chat().private_rows(batch), clip)


def test_epsilon_is_that_of_the_accountant_and_noise_keeps_it() -> None:
    from train_jobs.trainer.privacy import Privacy, epsilon_of

    # One step of the Gaussian mechanism on all rows: Balle and Wang 2018, noise 1 at delta 1e-5 spends 4.38.
    assert epsilon_of(1.0, 1.0, 1, 1e-5) == pytest.approx(4.38, abs=0.05)
    privacy = Privacy.for_run(8.0, 1e-5, 1.0, 10_000, 64, 470)
    assert 7.9 < privacy.epsilon <= 8.0
    assert privacy.noise == pytest.approx(0.5, abs=0.05)
    assert privacy.chance == 64 / 10_000
    assert len({Privacy.for_run(8.0, 1e-5, 1.0, 100, 100, 1).seed for _ in range(2)}) == 2  # a secret, drawn anew
    with pytest.raises(UsageError, match="would give away a whole row"):
        Privacy.for_run(8.0, 1e-3, 1.0, 10_000, 64, 470)


def test_what_cannot_be_private_is_refused(tmp_path) -> None:
    from cluster.core.config import PlinthConfig
    from cluster.core.progress import Silent
    from cluster.core.storage import Store
    from tests.train_jobs.corpora import SECTION, make_dataset
    from train_jobs.data.tokenizer import train_tokenizer
    from train_jobs.launch import pretrain

    store = Store(str(tmp_path / "store"))
    config = PlinthConfig(train=SECTION.model_copy(update={"dp_epsilon": 8.0}))
    dataset = make_dataset(store)
    tokenizer = train_tokenizer(config, store, dataset, Silent())
    with pytest.raises(UsageError, match=r"train\.dp_epsilon: this stage cannot be private"):
        pretrain(config, store, dataset, tokenizer, Silent())
