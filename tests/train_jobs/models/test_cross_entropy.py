"""Cross-entropy by chunks is torch's, in value and gradient."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.process  # torch takes seconds to import


def both(rows: int, vocab: int, bias: bool = False, precision: str = "fp32"):
    """Value and gradients of ours and of torch's for the same numbers."""
    import torch
    import torch.nn.functional as F  # noqa: N812

    from train_jobs.models.cross_entropy import summed_cross_entropy
    from train_jobs.trainer.precision import computing_in

    made = torch.Generator().manual_seed(7)
    hidden, weight = torch.randn(rows, 24, generator=made), torch.randn(vocab, 24, generator=made)
    extra = torch.randn(vocab, generator=made) if bias else None
    targets = torch.randint(0, vocab, (rows,), generator=made)

    def through(function):
        tensors = [None if t is None else t.clone().requires_grad_() for t in (hidden, weight, extra)]
        with computing_in(precision):
            loss = function(*tensors[:2], targets, tensors[2])
        (loss / max(1, rows)).backward()
        return loss.detach(), [t.grad for t in tensors if t is not None]

    def plain(h, w, t, b):
        return F.cross_entropy(F.linear(h, w, b).float(), t, reduction="sum")

    return through(summed_cross_entropy), through(plain)


@pytest.mark.parametrize(("rows", "vocab", "bias"), [(1, 5, False), (300, 50, False), (301, 257, True)])
def test_value_and_gradients_are_torchs(monkeypatch: pytest.MonkeyPatch, rows: int, vocab: int, bias: bool) -> None:
    import torch

    from train_jobs.models import cross_entropy

    monkeypatch.setattr(cross_entropy, "CHUNK_NUMBERS", 1)  # 64 rows at a time: several chunks, the last one short
    (loss, ours), (wanted, theirs) = both(rows, vocab, bias)
    torch.testing.assert_close(loss, wanted, rtol=1e-6, atol=0)
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-5, atol=1e-6)


def test_under_autocast_it_computes_in_bf16_and_sums_in_float32() -> None:
    import torch

    (loss, ours), (wanted, theirs) = both(130, 40, precision="bf16")
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, wanted, rtol=1e-3, atol=0)
    for mine, other in zip(ours, theirs, strict=True):
        assert mine.dtype == torch.float32
        torch.testing.assert_close(mine, other, rtol=0.05, atol=0.01)


def test_no_positions_give_no_loss_and_gradients_of_zero() -> None:
    (loss, ours), _ = both(0, 5)
    assert float(loss) == 0.0
    assert [float(g.abs().sum()) for g in ours] == [0.0, 0.0]


def test_the_logits_of_all_positions_never_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    """The largest tensor that any operation makes is one chunk's, forward and backward."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode

    from train_jobs.models import cross_entropy

    monkeypatch.setattr(cross_entropy, "CHUNK_NUMBERS", 64 * 500)
    made: list[int] = []

    class Sizes(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            made.extend(t.numel() for t in (out if isinstance(out, tuple) else (out,)) if torch.is_tensor(t))
            return out

    hidden, weight = torch.randn(1000, 8, requires_grad=True), torch.randn(500, 8, requires_grad=True)
    targets = torch.zeros(1000, dtype=torch.int64)
    with Sizes():
        cross_entropy.summed_cross_entropy(hidden, weight, targets).backward()
        with torch.no_grad():
            cross_entropy.summed_cross_entropy(hidden, weight, targets)
    assert max(made) == 64 * 500
