"""What transformers makes of a model folder: asked in a process of its own, with nothing to steal and little to break.

The folder was checked before (model_folder.py) but is still somebody else's: the process has an empty environment, no
hub, next to nothing it may write, and limits on memory and time.
"""

from __future__ import annotations

import dataclasses
import json
import os
import resource
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster.core.errors import BadInputError, PlinthError, UnsupportedError
from train_jobs.publishing.model_folder import ModelFolder, inspect

TIMEOUT_S, MEMORY_BYTES, WRITE_BYTES = 300.0, 24 << 30, 1 << 16  # torch insists on a folder for temporary files
DEFAULT_CONTEXT = 2048
CONTEXT_KEYS = ("max_position_embeddings", "n_positions", "max_sequence_length", "seq_length", "n_ctx", "max_seq_len")
SAMPLE = [{"role": "user", "content": "How do I copy a folder?"}]


@dataclass(frozen=True)
class Probed:
    """A causal language model's folder as transformers understands it."""

    architecture: str
    context_tokens: int
    vocabulary: int
    chat_template: bool


def probe(model: ModelFolder, timeout_s: float = TIMEOUT_S) -> Probed:
    """Have transformers load a checked folder once and say one word with it.

    Raises:
        UnsupportedError: transformers knows no causal language model of this architecture (it is named).
        BadInputError: weights or tokenizer do not fit the configuration, weights that are not numbers, a chat template
            that fails or never ends.
    """
    with tempfile.TemporaryDirectory(prefix="plinth-probe-") as scratch:
        answer = _ask(model.path, scratch, timeout_s)
    if "unsupported" in answer:
        raise UnsupportedError(answer["unsupported"])
    if "bad" in answer:
        raise BadInputError(answer["bad"])
    return Probed(**answer)


def _ask(folder: Path, scratch: str, timeout_s: float) -> dict[str, Any]:
    environment = {
        "TMPDIR": scratch, "HOME": scratch, "PATH": os.environ.get("PATH", ""), "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "DO_NOT_TRACK": "1", "OMP_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "false", "CUDA_VISIBLE_DEVICES": "", "PYTHONDONTWRITEBYTECODE": "1",
    }  # fmt: skip
    code = "import sys; from train_jobs.publishing.model_probe import report; report(sys.argv[1])"
    try:
        done = subprocess.run(  # noqa: S603 (this file, and a path as an argument)
            [sys.executable, "-c", code, str(folder.absolute())], cwd=Path(__file__).resolve().parents[2],
            env=environment, capture_output=True, text=True, timeout=timeout_s, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise BadInputError(f"loading the model and rendering its chat template took over {timeout_s:.0f} s") from None
    lines = done.stdout.strip().splitlines()
    if done.returncode != 0 or not lines:
        last = (done.stderr.strip().splitlines() or [f"it ended with {done.returncode}"])[-1]
        raise BadInputError(f"transformers cannot make a model of it: {last[:300]}")
    answer: dict[str, Any] = json.loads(lines[-1])
    return answer


def report(folder: str) -> None:
    """Runs in the child: prints a ``Probed``, or ``{"unsupported"|"bad": reason}``, as one line of JSON."""
    path = Path(folder)
    weights = sum(file.stat().st_size for file in path.glob("*.safetensors"))
    for limit, value in ((resource.RLIMIT_AS, MEMORY_BYTES + 3 * weights), (resource.RLIMIT_FSIZE, WRITE_BYTES)):
        resource.setrlimit(limit, (value, value))
    try:
        answer = dataclasses.asdict(examine(path))
    except UnsupportedError as error:
        answer = {"unsupported": error.message}
    except PlinthError as error:
        answer = {"bad": error.message}
    print(json.dumps(answer))


def examine(folder: Path) -> Probed:
    """``probe``, in this process."""
    architecture = _architecture(inspect(folder).config)
    tokenizer = _tokenizer(folder)
    model = _load(folder, architecture)
    rows = int(model.get_input_embeddings().weight.shape[0])
    highest = max(tokenizer.get_vocab().values(), default=-1)
    if highest < 0 or highest >= rows:
        raise BadInputError(
            f"the tokenizer knows ids up to {highest}, the model embeds {rows}: they do not belong together"
        )
    _say_one_word(model, rows)
    return Probed(architecture, _context(model.config), highest + 1, bool(tokenizer.chat_template))


def _architecture(config: dict[str, Any]) -> str:
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    model_type = str(config.get("model_type"))
    architectures = config.get("architectures")
    named = str(architectures[0]) if isinstance(architectures, list) and architectures else "none"
    if model_type not in CONFIG_MAPPING:
        raise UnsupportedError(
            f"architecture {named[:80]!r} (model_type {model_type[:80]!r}) is unknown to this version of transformers"
        )
    known = MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.get(model_type) or ()
    names = (known,) if isinstance(known, str) else tuple(known)
    if named not in names:
        instead = f"that of {model_type!r} is {names[0]}" if names else f"{model_type!r} has none"
        raise UnsupportedError(f"architecture {named[:80]!r} is no causal language model: {instead}")
    return named


def _load(folder: Path, architecture: str) -> Any:
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM

    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False, use_safetensors=True, dtype="auto",
            output_loading_info=True,
        )  # fmt: skip
    except (
        OSError,
        ValueError,
        TypeError,
        KeyError,
        AttributeError,
        ImportError,
        RuntimeError,
        SafetensorError,
    ) as error:
        raise BadInputError(
            f"the weights do not make a {architecture}: {type(error).__name__}: {str(error)[:300]}"
        ) from error
    model, info = loaded
    if missing := sorted(info["missing_keys"]):
        raise BadInputError(f"the weights lack {missing[0]}, which {architecture} needs ({len(missing)} missing)")
    if mismatched := sorted(str(key) for key in info["mismatched_keys"]):
        raise BadInputError(f"{mismatched[0]} has another shape than config.json asks for")
    return model.eval()


def _tokenizer(folder: Path) -> Any:
    from jinja2 import TemplateError
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, ImportError) as error:
        raise BadInputError(f"the tokenizer cannot be loaded: {str(error)[:300]}") from error
    if tokenizer.chat_template:
        try:  # transformers renders in Jinja's immutable sandbox; a loop without end ends with this process
            tokenizer.apply_chat_template(SAMPLE, tokenize=False, add_generation_prompt=True)
        except (TemplateError, TypeError, ValueError, ArithmeticError, LookupError, AttributeError) as error:
            raise BadInputError(f"its chat template fails: {type(error).__name__}: {str(error)[:200]}") from error
    return tokenizer


def _say_one_word(model: Any, rows: int) -> None:
    import torch

    with torch.inference_mode():
        logits = model(input_ids=torch.tensor([[0, 1 % rows, 2 % rows]])).logits
    if not bool(torch.isfinite(logits.float()).all()):
        raise BadInputError("the model's output is not finite: its weights are damaged")


def _context(config: Any) -> int:
    for key in CONTEXT_KEYS:
        value = getattr(config, key, None)
        if isinstance(value, int) and value > 0:
            return value
    return DEFAULT_CONTEXT
