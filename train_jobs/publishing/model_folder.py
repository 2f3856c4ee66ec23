"""Whether somebody else's model folder may be used, decided without loading it: names, links, content, headers.

Nothing here imports torch or transformers and nothing runs anything from the folder. What needs transformers to answer
(is the architecture known, do the tensors fit it, does the tokenizer) is asked in a process of its own: model_probe.py.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import stat
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster.core.errors import BadInputError, IntegrityError, PolicyRefusedError, UnsupportedError

# Copied into the artefact; everything else stays behind. Weights are added from the index.
ALLOWED = ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json",
           "special_tokens_map.json", "added_tokens.json", "chat_template.jinja")  # fmt: skip
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
PICKLES = {".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib", ".dill", ".npy", ".npz", ".mar"}
CODE = {".py", ".pyc", ".so", ".dll", ".dylib", ".pyd", ".whl", ".egg"}
MAGIC = {b"PK\x03\x04": "a zip archive (torch.save)", b"\x1f\x8b": "gzip", b"\x93NUMPY": "a NumPy file"}
PICKLE_MAGIC = re.compile(rb"^\x80[\x02-\x05]")
MAX_FILES, MAX_JSON_BYTES, MAX_TOKENIZER_BYTES, MAX_TEMPLATE_CHARS = 5_000, 2_000_000, 200_000_000, 65_536
MAX_HEADER_BYTES = 16_000_000
MAX_LAYERS, MAX_CONFIG_INTEGER = 1_000, 2**31
DTYPES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1,
          "U16": 2, "U32": 4, "U64": 8, "F8_E4M3": 1, "F8_E5M2": 1}  # fmt: skip
FLOATS = ("F64", "F32", "F16", "BF16")
# Settings that make a loader fetch or run something that is not in the folder.
RUNS_CODE = ("auto_map", "custom_pipelines", "trust_remote_code", "custom_generate", "attn_implementation")
HARMLESS_PRIVATE = ("_name_or_path", "_commit_hash", "_attn_implementation_autoset")


@dataclass(frozen=True)
class Tensor:
    """One tensor as a safetensors header describes it."""

    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class ModelFolder:
    """A folder whose files were checked.

    Attributes:
        files: names to copy, weights included.
        tensors: by name, over all shards.
        config: the parsed config.json.
    """

    path: Path
    files: tuple[str, ...]
    tensors: dict[str, Tensor]
    config: dict[str, Any]

    @property
    def parameters(self) -> int:
        """How many numbers the tensors of all shards hold, by the headers: nothing is loaded."""
        return sum(math.prod(tensor.shape) for tensor in self.tensors.values())

    @property
    def bytes(self) -> int:
        """Size of the files to copy, on disk, in bytes."""
        return sum((self.path / name).stat().st_size for name in self.files)


def inspect(folder: Path) -> ModelFolder:
    """Check a local Hugging Face model folder.

    Raises:
        PolicyRefusedError: pickles, code, settings that fetch or run code, links or special files.
        BadInputError: something needed is missing or malformed.
        IntegrityError: truncated or malformed safetensors.
        UnsupportedError: quantised weights.
    """
    if not folder.is_dir():
        raise BadInputError(f"there is no folder {folder}", path=str(folder))
    for path in _walk(folder):
        _refuse_dangerous(folder, path)
    config = _json(folder / "config.json", required=True)
    for name in ("config.json", "generation_config.json", "tokenizer_config.json"):
        _refuse_code_settings(name, _json(folder / name))
    _refuse_bombs(config)
    _check_tokenizer(folder)
    weights = weight_files(folder)
    tensors = _tensors(folder, weights)
    names = (*ALLOWED, INDEX)
    return ModelFolder(folder, (*(n for n in names if (folder / n).is_file()), *weights), tensors, config)


def digests(model: ModelFolder) -> dict[str, str]:
    """The sha256 of each of a model's files."""
    found = {}
    for name in model.files:
        with (model.path / name).open("rb") as handle:
            found[name] = hashlib.file_digest(handle, "sha256").hexdigest()
    return found


def _walk(folder: Path) -> Iterator[Path]:
    """Every file and link below the folder, without following links to folders."""
    seen = 0
    for parent, folders, files in os.walk(folder, followlinks=False):
        for name in (*files, *(f for f in folders if os.path.islink(os.path.join(parent, f)))):
            seen += 1
            if seen > MAX_FILES:
                raise BadInputError(f"{folder} holds more than {MAX_FILES} files: that is no model folder")
            yield Path(parent) / name


def _refuse_dangerous(folder: Path, path: Path) -> None:
    shown = path.relative_to(folder)
    if path.is_symlink() and not path.resolve().is_relative_to(folder.resolve()):
        raise PolicyRefusedError(
            f"{shown} is a link that leads out of {folder}: copy the model with its links resolved (cp -rL)",
            file=str(shown),
        )
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise BadInputError(f"{shown} cannot be read: {error.strerror}", file=str(shown)) from None
    if not stat.S_ISREG(mode):
        if stat.S_ISDIR(mode):
            return
        raise PolicyRefusedError(f"{shown} is no regular file", file=str(shown))
    suffixes = {suffix.lower() for suffix in path.suffixes}
    if suffixes & PICKLES:
        raise PolicyRefusedError(
            f"{shown} is a pickle, which runs code when it is read: only safetensors are taken; remove it, or save the "
            "model again with save_pretrained",
            file=str(shown),
        )
    if suffixes & CODE:
        raise PolicyRefusedError(f"{shown} is code: models that need code of their own are not run", file=str(shown))
    with path.open("rb") as handle:
        head = handle.read(8)
    what = "a pickle" if PICKLE_MAGIC.match(head) else next((w for m, w in MAGIC.items() if head.startswith(m)), "")
    if what:
        raise PolicyRefusedError(f"{shown} is {what}, whatever its name says: it is not taken", file=str(shown))


def _json(path: Path, required: bool = False, limit: int = MAX_JSON_BYTES) -> dict[str, Any]:
    if not path.is_file():
        if required:
            raise BadInputError(f"{path.parent} holds no {path.name}: it is no Hugging Face model folder")
        return {}
    if path.stat().st_size > limit:
        raise BadInputError(f"{path.name} is larger than {limit:,} bytes", file=path.name)
    try:
        value = json.loads(path.read_text(encoding="utf-8"), parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise BadInputError(f"{path.name} is no usable JSON: {str(error)[:200]}", file=path.name) from None
    if not isinstance(value, dict):
        raise BadInputError(f"{path.name} holds no JSON object", file=path.name)
    return value


def _no_constant(text: str) -> Any:
    raise ValueError(f"{text} is no JSON number")


def _settings(value: Any, place: str = "") -> Iterator[tuple[str, str, Any]]:
    """(place, key, value) of every setting, however deep."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in pairs:
        if isinstance(value, dict):
            yield place, str(key), inner
        yield from _settings(inner, f"{place}{key}.")


def _refuse_code_settings(name: str, config: dict[str, Any]) -> None:
    for place, key, value in _settings(config):
        private = key.startswith("_") and key not in HARMLESS_PRIVATE
        if (key in RUNS_CODE and value) or (private and isinstance(value, str)):
            raise PolicyRefusedError(
                f"{name} sets {place}{key}: that makes a loader fetch or run code, which is never done", setting=key
            )
        if key.endswith("_file") and isinstance(value, str) and ("/" in value or "\\" in value or ".." in value):
            raise PolicyRefusedError(f"{name}: {place}{key} names a file outside the folder", setting=key)
        if key == "quantization_config" and value:
            raise UnsupportedError(f"{name}: quantised checkpoints are not taken: add the original weights")


def refuse_settings(config: dict[str, Any], name: str = "config.json") -> None:
    """Refuse a config.json that would run or fetch code, is quantised, or has sizes no real model has.

    Raises:
        PolicyRefusedError, UnsupportedError, BadInputError: in this order.
    """
    _refuse_code_settings(name, config)
    _refuse_bombs(config)


def _refuse_bombs(config: dict[str, Any]) -> None:
    """Sizes no real model has: a loader would loop or allocate by them before it looks at the weights."""
    for place, key, value in _settings(config):
        if isinstance(value, bool) or not isinstance(value, int):
            continue
        layers = key.endswith(("_layers", "n_layer", "_experts", "n_experts"))
        if abs(value) > (MAX_LAYERS if layers else MAX_CONFIG_INTEGER):
            raise BadInputError(f"config.json: {place}{key}={str(value)[:30]} is beyond any real model", setting=key)


def _check_tokenizer(folder: Path) -> None:
    if not (folder / "tokenizer.json").is_file():
        raise BadInputError(
            f"{folder} holds no tokenizer.json: save the fast tokenizer there (AutoTokenizer...save_pretrained)"
        )
    _json(folder / "tokenizer.json", limit=MAX_TOKENIZER_BYTES)
    for name, template in _templates(folder):
        if len(template) > MAX_TEMPLATE_CHARS:
            raise BadInputError(f"the chat template in {name} is longer than {MAX_TEMPLATE_CHARS:,} characters")


def _templates(folder: Path) -> Iterator[tuple[str, str]]:
    jinja = folder / "chat_template.jinja"
    if jinja.is_file():
        if jinja.stat().st_size > 4 * MAX_TEMPLATE_CHARS:
            raise BadInputError(f"the chat template in {jinja.name} is longer than {MAX_TEMPLATE_CHARS:,} characters")
        yield jinja.name, jinja.read_text(encoding="utf-8", errors="replace")
    for place, key, value in _settings(_json(folder / "tokenizer_config.json")):
        if isinstance(value, str) and (key == "chat_template" or place.startswith("chat_template.")):
            yield "tokenizer_config.json", value


def weight_files(folder: Path) -> list[str]:
    """Names of the safetensors files, from the index where the weights are sharded."""
    if not (folder / INDEX).is_file():
        if not (folder / WEIGHTS).is_file():
            raise BadInputError(f"{folder} holds no {WEIGHTS}: only safetensors are read, never pickles")
        return [WEIGHTS]
    weight_map = _json(folder / INDEX).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise BadInputError(f"{INDEX} names no weights")
    for tensor, shard in weight_map.items():
        if not isinstance(shard, str) or Path(shard).name != shard or not shard.endswith(".safetensors"):
            raise BadInputError(f"{INDEX} names {str(shard)[:100]!r} for {tensor}: shards lie in the folder itself")
        if not (folder / shard).is_file():
            raise BadInputError(f"{INDEX} names the shard {shard}, which is missing")
    return sorted(set(weight_map.values()))


def _tensors(folder: Path, weights: list[str]) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    where: dict[str, str] = {}
    for name in weights:
        for tensor, described in read_header(folder / name).items():
            if tensor in tensors:
                raise BadInputError(f"tensor {tensor} is in {where[tensor]} and in {name}")
            tensors[tensor], where[tensor] = described, name
    weight_map = _json(folder / INDEX).get("weight_map", {})
    if wrong := sorted(tensor for tensor, shard in weight_map.items() if where.get(tensor) != shard):
        raise BadInputError(f"{INDEX} puts {wrong[0]} into {weight_map[wrong[0]]}, where it is not")
    # Old versions saved masks as booleans or bytes; anything else that is no float is a quantised checkpoint.
    quantised = sorted(n for n, tensor in tensors.items() if tensor.dtype not in (*FLOATS, "BOOL", "U8", "I64"))
    if quantised:
        raise UnsupportedError(f"{quantised[0]} is {tensors[quantised[0]].dtype}: quantised weights are not taken")
    return tensors


def read_header(path: Path) -> dict[str, Tensor]:
    """The tensors of one safetensors file; every offset is checked against the size of the file.

    Layout: 8 bytes little-endian length of the header, the header (JSON), the data, without holes.

    Raises:
        IntegrityError: malformed, truncated, or with sizes that do not fit the file.
    """
    size = path.stat().st_size
    with path.open("rb") as handle:
        length = struct.unpack("<Q", handle.read(8))[0] if size >= 8 else size
        if length > min(size - 8, MAX_HEADER_BYTES):
            raise _broken(path, f"its header claims {length:,} bytes of a file of {size:,}")
        text = handle.read(length)
    try:
        header = json.loads(text, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise _broken(path, f"its header is no JSON ({str(error)[:80]})") from None
    if not isinstance(header, dict):
        raise _broken(path, "its header is no JSON object")
    header.pop("__metadata__", None)
    spans, tensors = [], {}
    for name, entry in header.items():
        tensor, begin, end = _entry(path, name, entry)
        tensors[name] = tensor
        spans.append((begin, end))
    at = 0
    for begin, end in sorted(spans):
        if begin != at:
            raise _broken(path, "its tensors overlap or leave holes")
        at = end
    if at != size - 8 - length:
        raise _broken(path, f"its tensors need {at:,} bytes and the file holds {size - 8 - length:,}: truncated?")
    return tensors


def _entry(path: Path, name: str, entry: Any) -> tuple[Tensor, int, int]:
    try:
        shape, (begin, end) = tuple(entry["shape"]), entry["data_offsets"]
        numbers = (*shape, begin, end)
        width = DTYPES[entry["dtype"]]
    except (KeyError, TypeError, ValueError):
        raise _broken(path, f"{name[:100]!r} is described incompletely or with an unknown dtype") from None
    if any(type(n) is not int or n < 0 for n in numbers) or math.prod(shape) * width != end - begin:
        raise _broken(path, f"{name[:100]!r} has a shape that does not fit its bytes")
    return Tensor(entry["dtype"], shape), begin, end


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name occurs twice")
    return found


def _broken(path: Path, why: str) -> IntegrityError:
    return IntegrityError(f"{path.name} is no whole safetensors file: {why}", file=path.name)
