"""Networks that write no text, as values: BERT encoders with a head, a pair of towers, a change of question vectors.

They go through the same plans and the same loop as causal language models; of a ``ModelSpec`` they fulfil what those
ask for. Imports no torch.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from cluster.core.errors import UnsupportedError

if TYPE_CHECKING:
    from torch import Tensor, nn

Head = Literal["vector", "labels", "tokens", "reader", "states"]
MERGE, SKIPPED = "merge_tokens", "skipped_tokens"


@dataclass(frozen=True)
class _Spec:
    """What these specs have in common: the weights are all there is of a network, and keep their names."""

    kind: ClassVar[str]

    def materialise(self, network: nn.Module, device: str) -> None:
        """As ``ModelSpec``: it computes nothing from its config alone."""
        network.to_empty(device=device)

    def to_hugging_face(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """The names stay: they are transformers' already, or it has no such model."""
        return state

    def from_hugging_face(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """The reverse."""
        return state

    def config(self, bos: int, eos: int, pad: int) -> dict[str, Any]:
        """As ``ModelSpec``: the sizes."""
        del bos, eos, pad
        return asdict(self)

    def to_dict(self) -> dict[str, Any]:
        """As ``ModelSpec``."""
        return {"kind": self.kind, **asdict(self)}


@dataclass(frozen=True)
class EncoderSpec(_Spec):
    """A BERT encoder and what it gives.

    Attributes:
        settings: its config.json.
        head: ``vector``: one of length 1 for a text; ``labels``: a score for each label; ``tokens``: a score for each
            token of the vocabulary; ``reader``: whether a text answers a question, and where; ``states``: those of its
            tokens, ``merge_tokens`` of its settings to a state.
        labels: how many labels there are.
        tokens: the longest row; 0 for what the positions allow.
    """

    settings: dict[str, Any]
    head: Head = "vector"
    labels: int = 0
    tokens: int = 0
    kind: ClassVar[str] = "encoder"

    def __post_init__(self) -> None:
        from data_jobs.retrieval.bert import supported

        if not supported(self.settings):
            raise UnsupportedError(
                f"only BERT encoders with absolute positions and gelu can be trained, not "
                f"{self.settings.get('model_type')!r}"
            )

    @property
    def vocab(self) -> int:
        """As ``ModelSpec``."""
        return int(self.settings["vocab_size"])

    @property
    def context(self) -> int:
        """As ``ModelSpec``."""
        return self.tokens or int(self.settings["max_position_embeddings"])

    @property
    def parameters(self) -> int:
        """As ``ModelSpec``."""
        return sum(weight.numel() for weight in self.build(device="meta").parameters())

    @property
    def merge(self) -> int:
        """How many adjacent tokens a state stands for."""
        return int(self.settings.get(MERGE, 1))

    def teacher_settings(self) -> dict[str, Any]:
        """The settings without what makes a document encoder of them."""
        return {name: value for name, value in self.settings.items() if name not in (MERGE, SKIPPED)}

    def seen(self, ids: Tensor) -> Tensor:
        """Which tokens [n, T] the network is shown, bool."""
        import torch

        return ~torch.isin(ids, torch.tensor(self.settings.get(SKIPPED, []), dtype=ids.dtype, device=ids.device))

    def shown(self, ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Rows [n, T] without the tokens that are skipped, [n, S]; which are real; and how many of those that are
        shown stand before each place of the rows that were given, [n, T + 1]."""
        import torch
        import torch.nn.functional as F  # noqa: N812

        kept = mask & self.seen(ids)
        before = F.pad(kept.cumsum(1), (1, 0))
        real = torch.arange(max(1, int(before[:, -1].max())), device=ids.device)[None, :] < before[:, -1:]
        rows = torch.zeros(real.shape, dtype=ids.dtype, device=ids.device)
        rows[real] = ids[kept]
        return rows, real, before

    def build(self, seed: int = 0, device: str = "cpu") -> nn.Module:
        """As ``ModelSpec``."""
        import torch

        from train_jobs.models.bert import Bert
        from train_jobs.models.reader import ReaderNetwork

        with torch.device(device):
            return ReaderNetwork(self, seed) if self.head == "reader" else Bert(self, seed)

    def blocks(self, network: nn.Module) -> list[nn.Module]:
        """As ``ModelSpec``."""
        return list(network.encoder.layer)  # type: ignore[union-attr, arg-type]

    def config(self, bos: int, eos: int, pad: int) -> dict[str, Any]:
        """As ``ModelSpec``; an encoder's tokens are in its own settings."""
        del bos, eos, pad
        return self.settings


@dataclass(frozen=True)
class TowersSpec(_Spec):
    """An image tower, and a projection of text vectors into the same space.

    Attributes:
        pixels: width and height of an image; text: length of a text vector; width: of the first layer of the image
            tower; dim: of the common space.
    """

    pixels: int
    text: int
    width: int = 32
    dim: int = 128
    kind: ClassVar[str] = "towers"
    vocab: ClassVar[int] = 0
    context: ClassVar[int] = 0

    @property
    def parameters(self) -> int:
        """As ``ModelSpec``."""
        return sum(weight.numel() for weight in self.build(device="meta").parameters())

    def build(self, seed: int = 0, device: str = "cpu") -> nn.Module:
        """As ``ModelSpec``."""
        import torch

        from train_jobs.models.towers import Towers

        with torch.random.fork_rng(devices=[]), torch.device(device):
            torch.manual_seed(seed)
            return Towers(self)

    def blocks(self, network: nn.Module) -> list[nn.Module]:
        """As ``ModelSpec``: it is too small to be cut."""
        return [network.image]  # type: ignore[list-item]


@dataclass(frozen=True)
class QuestionMapSpec(_Spec):
    """What is added to a question's vector, a matrix of a small rank times the vector.

    Attributes:
        dim: length of a vector; rank: of the matrix.
    """

    dim: int
    rank: int
    kind: ClassVar[str] = "question_map"
    vocab: ClassVar[int] = 0
    context: ClassVar[int] = 0

    @property
    def parameters(self) -> int:
        """As ``ModelSpec``."""
        return 2 * self.dim * self.rank

    def build(self, seed: int = 0, device: str = "cpu") -> nn.Module:
        """As ``ModelSpec``."""
        import torch

        from train_jobs.models.question_map import QuestionMapNetwork

        with torch.random.fork_rng(devices=[]), torch.device(device):
            torch.manual_seed(seed)
            return QuestionMapNetwork(self)

    def blocks(self, network: nn.Module) -> list[nn.Module]:
        """As ``ModelSpec``: it is too small to be cut."""
        del network
        return []
