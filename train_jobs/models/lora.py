"""Low-rank adapters on a frozen base (Hu et al. 2021), as a ``ModelSpec`` around another; peft computes them.

An adapter belongs to the weights it was trained on: peft loads it on any others of the same shape without a word, so
its artefact names the hash of its base, and another base is refused. A network's weights are published merged, which
every engine runs; the adapter alone is published beside them in peft's own form.
"""

from __future__ import annotations

import dataclasses
import json
import posixpath
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from cluster.core.errors import BadInputError, IncompatibleError
from cluster.core.records import Manifest
from cluster.core.storage import Store
from train_jobs.models.weights import fingerprint, read_weights, weight_hashes

if TYPE_CHECKING:
    from torch import Tensor, nn

    from train_jobs.models.spec import ModelSpec

KIND = "adapters"
CONFIG, WEIGHTS, BOUND = "adapter_config.json", "adapter_model.safetensors", "adapter.json"
PEFT, ADAPTER = "base_model.model.", "default"
ALL = "all-linear"


@dataclass(frozen=True)
class LoraSpec:
    """A base and the adapters that learn on it.

    Attributes:
        base: what is adapted; its weights stay as they are.
        rank, alpha, dropout: of every adapter; what it adds is scaled by alpha / rank.
        targets: names of the layers that get one, comma-separated; ``all-linear`` takes all but the head.
        seed: of the adapters' first weights.
        base_name, base_sha256: the checkpoint of the base, and the fingerprint of its weights.
    """

    base: ModelSpec
    rank: int
    alpha: float
    dropout: float = 0.0
    targets: str = ALL
    seed: int = 0
    base_name: str = ""
    base_sha256: str = ""
    kind: ClassVar[str] = "lora"

    @property
    def vocab(self) -> int:
        """As ``ModelSpec``."""
        return self.base.vocab

    @property
    def context(self) -> int:
        """As ``ModelSpec``."""
        return self.base.context

    @property
    def parameters(self) -> int:
        """Of the base: the adapters are merged into it in the end."""
        return self.base.parameters

    def build(self, seed: int = 0, device: str = "cpu") -> nn.Module:
        """As ``ModelSpec``: the base's weights from ``seed``, frozen; adapters from the spec's own seed, adding nothing
        yet.

        Raises:
            BadInputError: no layer has one of the target names.
        """
        from peft import inject_adapter_in_model

        network = self.base.build(seed, device).requires_grad_(False)
        inject_adapter_in_model(self._peft(network), network, adapter_name=ADAPTER)
        if device != "meta":
            weights = dict(network.named_parameters())
            for name, first in self._first(weights).items():
                weights[name].data.copy_(first)
        return network

    def materialise(self, network: nn.Module, device: str) -> None:
        """As ``ModelSpec``."""
        self.base.materialise(network, device)

    def blocks(self, network: nn.Module) -> list[nn.Module]:
        """As ``ModelSpec``."""
        return self.base.blocks(network)

    def to_hugging_face(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """The base's weights with the adapters merged into them."""
        import torch
        from peft.tuners.lora import LoraLayer

        network = self.build()
        with torch.no_grad():
            for name, weight in network.named_parameters():
                weight.copy_(state[name])
        for module in network.modules():
            if isinstance(module, LoraLayer):
                module.merge()
        merged = {_base_name(name): w.detach() for name, w in network.named_parameters() if not _is_adapter(name)}
        return self.base.to_hugging_face(merged)

    def from_hugging_face(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """The base's weights under the network's names, with adapters that add nothing yet."""
        base, empty = self.base.from_hugging_face(state), dict(self.build(device="meta").named_parameters())
        first = self._first(empty)
        return {name: first[name] if name in first else base[_base_name(name)] for name in empty}

    def config(self, bos: int, eos: int, pad: int) -> dict[str, Any]:
        """As ``ModelSpec``."""
        return self.base.config(bos, eos, pad)

    def to_dict(self) -> dict[str, Any]:
        """As ``ModelSpec``."""
        rest = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {"kind": self.kind, **rest, "base": self.base.to_dict()}

    def adapter_files(self, state: Mapping[str, Tensor]) -> dict[str, bytes]:
        """The adapter of a network's weights as a folder that peft loads, and what binds it to its base."""
        from safetensors.torch import save

        network = self.build(device="meta")
        tensors = {
            PEFT + name.replace(f".{ADAPTER}.", "."): tensor.float().contiguous()
            for name, tensor in state.items()
            if _is_adapter(name)
        }
        config = self._peft(network).to_dict() | {"task_type": "CAUSAL_LM", "inference_mode": True}
        described = {key: sorted(value) if isinstance(value, set) else value for key, value in config.items()}
        described["base_model_name_or_path"] = self.base_name
        bound = {"base": self.base_name, "base_sha256": self.base_sha256, "spec": self.to_dict()}
        return {
            CONFIG: json.dumps(described, indent=1, default=str).encode(),
            WEIGHTS: save(tensors, metadata={"format": "pt"}),
            BOUND: json.dumps(bound, indent=1).encode(),
        }

    def _first(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The first weights of the adapters among ``weights``, by their shapes: A as a linear layer's, B zero."""
        import math

        import torch

        generator, found = torch.Generator().manual_seed(self.seed), {}
        for name in sorted(name for name in weights if _is_adapter(name)):
            found[name] = torch.zeros(weights[name].shape)
            if ".lora_A." in name:
                torch.nn.init.kaiming_uniform_(found[name], a=math.sqrt(5), generator=generator)
        return found

    def _peft(self, network: Any) -> Any:
        from peft import LoraConfig
        from transformers.pytorch_utils import Conv1D

        layers = _linear_layers(network)
        wanted = {name.strip() for name in self.targets.split(",") if name.strip()}
        chosen = [name for name in layers if self.targets == ALL or name.rpartition(".")[2] in wanted]
        known = sorted({name.rpartition(".")[2] for name in layers})
        missing = [] if self.targets == ALL else sorted(wanted - set(known))
        if missing or not chosen:
            raise BadInputError(
                f"train.lora_targets names {', '.join(missing) or self.targets!r}: this model has {', '.join(known)}"
            )
        return LoraConfig(
            r=self.rank, lora_alpha=self.alpha, lora_dropout=self.dropout, target_modules=chosen,  # type: ignore[arg-type]
            fan_in_fan_out=all(isinstance(layers[name], Conv1D) for name in chosen),
        )  # fmt: skip


def _linear_layers(network: Any) -> dict[str, Any]:
    """Every linear layer but the head; adapted ones count as the layer they stand for."""
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    head = getattr(network, "get_output_embeddings", lambda: None)()
    found = {}
    for name, module in network.named_modules():
        if isinstance(module, nn.Linear | Conv1D) and module is not head and not _is_adapter(f"{name}."):
            found[name.removesuffix(".base_layer")] = module
    return found


def _is_adapter(name: str) -> bool:
    return ".lora_A." in name or ".lora_B." in name


def _base_name(name: str) -> str:
    return name.replace(".base_layer.", ".")


def adapted(
    spec: ModelSpec, base: Manifest, rank: int, alpha: float, dropout: float, targets: str, seed: int
) -> LoraSpec:
    """Adapters on the weights of a published checkpoint."""
    name = f"{base.name}@{base.version}"
    return LoraSpec(spec, rank, alpha, dropout, targets, seed, name, fingerprint(weight_hashes(base)))


def check_base(store: Store, adapter: Manifest, base: Manifest) -> None:
    """Refuse an adapter on other weights than those it was trained on.

    Raises:
        IncompatibleError: both hashes are named.
        IntegrityError: a file of the adapter is not what its manifest says.
    """
    store.verify(adapter)
    bound = store.read_json(posixpath.join(store.artefact(adapter), BOUND))
    found = fingerprint(weight_hashes(base))
    if bound["base_sha256"] != found:
        raise IncompatibleError(
            f"the adapter {adapter.name}@{adapter.version} was trained on {bound['base']} (weights "
            f"{bound['base_sha256'][:16]}), and {base.name}@{base.version} has the weights {found[:16]}: it would "
            "load, and say nothing right"
        )


def merged(
    store: Store, adapter: Manifest, base: Manifest, spec_from: Callable[[dict[str, Any]], ModelSpec]
) -> tuple[ModelSpec, dict[str, Tensor]]:
    """The base's spec and its weights with an adapter merged into them; ``spec_from`` reads specs.

    Raises:
        IncompatibleError, IntegrityError: as ``check_base``; a file of the base is not what its manifest says.
    """
    from safetensors.torch import load

    check_base(store, adapter, base)
    folder = store.artefact(adapter)
    spec = spec_from(store.read_json(posixpath.join(folder, BOUND))["spec"])
    assert isinstance(spec, LoraSpec)  # noqa: S101 (its own files say so, and were verified)
    parts = read_weights(store, store.artefact(base), weight_hashes(base))
    state = spec.from_hugging_face({name: tensor for part in parts for name, tensor in part.items()})
    for name, tensor in load(store.read(posixpath.join(folder, WEIGHTS))).items():
        plain = name.removeprefix(PEFT)
        for side in ("lora_A", "lora_B"):
            plain = plain.replace(f".{side}.weight", f".{side}.{ADAPTER}.weight")
        state[plain] = tensor
    return spec.base, spec.to_hugging_face(state)
