"""Any causal language model that transformers knows, as a ``ModelSpec``: from a config, a local folder or a hub's id.

Code that comes with a model is never run, pickles are never read; both are refused by name before anything is loaded.
Imports no torch and no transformers before it must.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from cluster.core.errors import BadInputError, EnvironmentFaultError, PolicyRefusedError, UnsupportedError
from train_jobs.publishing.model_folder import ALLOWED, INDEX, ModelFolder, inspect, refuse_settings

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

CONTEXT_KEYS = ("max_position_embeddings", "n_positions", "max_sequence_length", "seq_length", "n_ctx", "max_seq_len")
DEFAULT_CONTEXT = 2048  # of a model whose positions have no end
DROPOUT = ("dropout", "pdrop", "dropout_prob", "dropout_rate")


@dataclass(frozen=True)
class HuggingFaceSpec:
    """A causal language model by its config.json.

    Attributes:
        settings: config.json, as it is published.
        parameters: how many numbers the weights are, tied ones counted once.
        context: the longest row, in tokens.
        dropout: of every place where the model has one, while it is trained; what its config says is for others.
    """

    settings: dict[str, Any]
    parameters: int
    context: int
    dropout: float = 0.0
    kind: ClassVar[str] = "huggingface"

    @classmethod
    def of(cls, settings: Mapping[str, Any], vocab: int = 0, context: int = 0) -> HuggingFaceSpec:
        """The spec of a config.json. ``vocab`` and ``context`` replace what it says, where they are given.

        Raises:
            PolicyRefusedError: settings that would run or fetch code.
            UnsupportedError: an architecture that is no causal language model of transformers; quantised weights.
            BadInputError: sizes that do not fit each other, or beyond any real model.
        """
        refuse_settings(dict(settings))
        found = {key: value for key, value in settings.items() if not key.startswith("_")}
        config = _config(found)
        text = config.get_text_config(decoder=True)
        longest = next((n for key in CONTEXT_KEYS if isinstance(n := getattr(text, key, None), int) and n > 0), 0)
        if vocab and vocab != text.vocab_size:
            found = {**found, _written(config, found, "vocab_size"): vocab}
        if context and longest and context > longest:
            raise BadInputError(f"a context of {context} tokens is more than the model's {longest}")
        spec = cls(found, 0, context or longest or DEFAULT_CONTEXT)
        counted = sum(weight.numel() for weight in spec.build(device="meta").parameters())
        return cls(found, counted, spec.context)

    @property
    def vocab(self) -> int:
        """As ``ModelSpec``."""
        size: int = _config(self.settings).get_text_config(decoder=True).vocab_size
        return size

    def build(self, seed: int = 0, device: str = "cpu") -> PreTrainedModel:
        """As ``ModelSpec``. On another device than ``meta`` the weights are float32, as transformers initialises them.

        Raises:
            BadInputError: sizes that do not fit each other.
        """
        import torch
        from transformers import AutoModelForCausalLM

        from train_jobs.models.causal_network import as_network

        config = _config(self.settings)
        for part in (config, *(getattr(config, name, None) for name in config.sub_configs)):
            for name in vars(part) if part is not None else ():
                if name.endswith(DROPOUT) and isinstance(getattr(part, name), int | float):
                    setattr(part, name, self.dropout)
        try:
            with torch.random.fork_rng(devices=[]), torch.device(device):
                torch.manual_seed(seed)
                model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        except (
            ValueError,
            TypeError,
            KeyError,
            AttributeError,
            RuntimeError,
            AssertionError,
            ZeroDivisionError,
        ) as error:
            raise BadInputError(
                f"transformers cannot build this {config.model_type} model: {str(error)[:300]}"
            ) from error
        return as_network(model).train()

    def materialise(self, network: Any, device: str) -> None:
        """As ``ModelSpec``."""
        from train_jobs.models.causal_network import materialise

        materialise(network, device)

    def blocks(self, network: Any) -> list[Any]:
        """As ``ModelSpec``."""
        from train_jobs.models.causal_network import layers_of

        return layers_of(network)

    def to_hugging_face(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Weights by the network's names under those that transformers writes to files: they differ where it keeps in
        one tensor what the files have in several (experts)."""
        from transformers.core_model_loading import revert_weight_conversion

        if not self._converts():
            return state
        return dict(revert_weight_conversion(self.build(device="meta"), dict(state)))

    def from_hugging_face(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """The reverse; a tied weight may stand under one of its names or under all.

        Raises:
            BadInputError: weights are missing, or have another shape than the config says.
        """
        import torch

        network = self.build(device="meta")
        own = {name: tuple(weight.shape) for name, weight in network.named_parameters()}
        if all(name in state and tuple(state[name].shape) == shape for name, shape in own.items()) and not (
            self._converts()
        ):
            return {name: state[name] for name in own}
        from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

        loaded, told = MODEL_FOR_CAUSAL_LM_MAPPING[type(_config(self.settings))].from_pretrained(  # type: ignore[attr-defined]
            None, config=_config(self.settings), state_dict=state, output_loading_info=True, dtype=torch.float32
        )
        _refuse_incomplete(told, type(loaded).__name__)
        return {name: weight.detach() for name, weight in loaded.named_parameters()}

    def config(self, bos: int, eos: int, pad: int) -> dict[str, Any]:
        """As ``ModelSpec``."""
        return {**self.settings, "bos_token_id": bos, "eos_token_id": eos, "pad_token_id": pad, "dtype": "float32",
                "architectures": [type(self.build(device="meta")).__name__]}  # fmt: skip

    def to_dict(self) -> dict[str, Any]:
        """As ``ModelSpec``."""
        return {"kind": self.kind, "settings": self.settings, "parameters": self.parameters, "context": self.context,
                "dropout": self.dropout}  # fmt: skip

    def _converts(self) -> bool:
        from transformers.conversion_mapping import get_model_conversion_mapping

        return bool(get_model_conversion_mapping(self.build(device="meta"), add_legacy=False))


def source_folder(source: str, cache: Path) -> ModelFolder:
    """The checked folder of a model: a local one, or what a hub's id names, fetched below ``cache`` (safetensors,
    configuration and tokenizer only).

    Raises:
        PolicyRefusedError: pickles, code, settings that fetch or run code, links or special files.
        BadInputError: there is no such folder or model, or something needed is missing or malformed.
        EnvironmentFaultError: the hub cannot be reached.
        IntegrityError, UnsupportedError: as ``model_folder.inspect``.
    """
    path = Path(source).expanduser()
    if path.is_dir():
        return inspect(path)
    if not _is_id(source):
        raise BadInputError(f"there is no folder {source}, and a hub's id has the form OWNER/NAME", path=source)
    return inspect(_fetched(source, cache / source.replace("/", "--")))


def _fetched(name: str, to: Path, weights: bool = True) -> Path:
    from httpx2 import TransportError  # what huggingface_hub speaks HTTP with
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import (
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
    )

    try:
        files = [entry.rfilename for entry in HfApi().model_info(name).siblings or ()]
        if code := next((file for file in files if file.endswith(".py")), ""):
            raise PolicyRefusedError(f"{name} brings code of its own ({code}), which is never run", file=code)
        if weights and not any(file.endswith(".safetensors") for file in files):
            raise BadInputError(f"{name} holds no safetensors: only those are read, never pickles")
        wanted = [*ALLOWED, INDEX, "*.safetensors", "README.md"] if weights else ["config.json"]
        snapshot_download(name, local_dir=to, allow_patterns=wanted)
    except RepositoryNotFoundError:
        raise BadInputError(f"the hub knows no public model {name}, and there is no such folder") from None
    except HFValidationError:
        raise BadInputError(f"there is no folder {name}, and it is no hub's id (OWNER/NAME)") from None
    except (HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled, TransportError, OSError) as error:
        raise EnvironmentFaultError(
            f"{name} is no local folder and the model hub cannot be asked ({type(error).__name__}): name a folder"
        ) from error
    return to


def read_settings(source: Path) -> dict[str, Any]:
    """A config.json, by its own path or its folder's.

    Raises:
        BadInputError: it is missing or no JSON object.
    """
    path = source / "config.json" if source.is_dir() else source
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise BadInputError(f"{path} is no readable config.json: {str(error)[:200]}", path=str(path)) from None
    if not isinstance(found, dict):
        raise BadInputError(f"{path} holds no JSON object", path=str(path))
    return found


def source_settings(source: str, cache: Path) -> dict[str, Any]:
    """The config.json that ``source`` names: a file, a folder, or a hub's id (only that file is fetched).

    Raises:
        BadInputError: there is none.
        EnvironmentFaultError: the hub cannot be reached.
    """
    path = Path(source).expanduser()
    if path.exists() or not _is_id(source):
        return read_settings(path)
    return read_settings(_fetched(source, cache / source.replace("/", "--"), weights=False))


def _is_id(source: str) -> bool:
    return source.count("/") == 1 and not source.startswith((".", "/", "~"))


def load(folder: ModelFolder, context: int = 0) -> tuple[HuggingFaceSpec, dict[str, Tensor]]:
    """A checked folder's spec and its weights by the network's names, in the precision of the files.

    Raises:
        BadInputError: the weights do not make the model that config.json describes.
        UnsupportedError, PolicyRefusedError: as ``HuggingFaceSpec.of``.
    """
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM

    spec = HuggingFaceSpec.of(folder.config, context=context)
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            folder.path, local_files_only=True, trust_remote_code=False, use_safetensors=True, dtype="auto",
            output_loading_info=True,
        )  # fmt: skip
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RuntimeError, SafetensorError) as error:
        raise BadInputError(f"{folder.path} does not load: {type(error).__name__}: {str(error)[:300]}") from error
    model, told = loaded
    _refuse_incomplete(told, type(model).__name__)
    return spec, {name: weight.detach() for name, weight in model.named_parameters()}


def _refuse_incomplete(told: Mapping[str, Any], architecture: str) -> None:
    if missing := sorted(told["missing_keys"]):
        raise BadInputError(f"the weights lack {missing[0]}, which {architecture} needs ({len(missing)} missing)")
    if mismatched := sorted(str(key) for key in told["mismatched_keys"]):
        raise BadInputError(f"{mismatched[0]} has another shape than config.json asks for")


def _config(settings: Mapping[str, Any]) -> Any:
    from huggingface_hub.errors import StrictDataclassError
    from transformers import AutoConfig
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    model_type = str(settings.get("model_type"))
    if model_type not in CONFIG_MAPPING:
        raise UnsupportedError(f"the architecture {model_type[:80]!r} is unknown to this version of transformers")
    if model_type not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        raise UnsupportedError(f"{model_type!r} is no causal language model of transformers")
    rest = {key: value for key, value in settings.items() if key not in ("model_type", "transformers_version")}
    try:
        return AutoConfig.for_model(model_type, **rest)
    except (ValueError, TypeError, KeyError, AttributeError, StrictDataclassError) as error:
        raise BadInputError(f"config.json is none of a {model_type}: {str(error)[:300]}") from error


def _written(config: Any, settings: Mapping[str, Any], name: str) -> str:
    """Under which name a config.json has a setting that transformers calls ``name``."""
    alias: str = getattr(config, "attribute_map", {}).get(name, name)
    return alias if alias in settings else name
