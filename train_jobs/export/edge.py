"""A model for a machine that has nothing else: a folder in 8 bits, and how well and fast it says what the model says.

``export_edge`` writes the folder and measures it; ``EdgeModel`` answers from it with OpenVINO alone: no Ray, no torch,
no network.
"""

from __future__ import annotations

import hashlib
import json
import resource
import shutil
import time
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

from cluster.core.errors import BadInputError, IntegrityError, UnsupportedError, UsageError
from cluster.core.progress import Progress
from cluster.core.storage import storage_errors

FACTS = "edge.json"
KV_BLOCK = 32
NEW_TOKENS = 128  # of one answer
COMPARED = 32  # tokens of each prompt that are compared with the model in float32
PROMPTS = (
    "What is the capital of France?", "Name three colours.", "How do I copy a directory tree?", "Why is the sky blue?",
)  # fmt: skip
EXACT = {"INFERENCE_PRECISION_HINT": "f32", "KV_CACHE_PRECISION": "f32", "DYNAMIC_QUANTIZATION_GROUP_SIZE": "0"}


def export_edge(hf_folder: Path, out: Path, origin: Mapping[str, str], progress: Progress) -> dict[str, Any]:
    """Write the folder of a model's Hugging Face folder, and compare it with the model; returns its edge.json.

    It is written beside ``out``, which there is whole or not at all; what an interrupted export left is replaced.

    Raises:
        UnsupportedError: an architecture that the converter does not know.
        BadInputError: ``out`` is not empty, or the checkpoint is incomplete.
        EnvironmentFaultError: the disk is full.
    """
    out = out.resolve()
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise BadInputError(f"{out} is not empty: name a new folder")
    partial = out.with_name(f".{out.name}.partial")
    with storage_errors(str(out)):
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        try:
            facts = _export(hf_folder, partial, origin, progress)
            partial.replace(out)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
    return facts


def _export(hf_folder: Path, out: Path, origin: Mapping[str, str], progress: Progress) -> dict[str, Any]:
    from train_jobs.export.openvino_graph import export

    progress.stage("convert to 8 bits")
    export(hf_folder, out, int8=True)
    before = sum(path.stat().st_size for path in hf_folder.glob("*.safetensors"))
    facts: dict[str, Any] = {"origin": dict(origin), "original_bytes": before, "files": _hashes(out)}
    _write(out, facts)
    progress.stage("compare with the model")
    facts["agreement"] = agreement(hf_folder, out)
    _write(out, facts)
    return facts


def agreement(hf_folder: Path, out: Path) -> dict[str, Any]:
    """How often the folder's most likely next token is the model's (float32, transformers), along what the model says
    greedily to the prompts."""
    import torch
    from transformers import AutoModelForCausalLM

    edge = EdgeModel(out)
    model: Any = AutoModelForCausalLM.from_pretrained(
        hf_folder, local_files_only=True, trust_remote_code=False, use_safetensors=True, dtype=torch.float32
    ).eval()
    same = total = 0
    with torch.inference_mode():
        for question in PROMPTS:
            prompt = edge.encode(question)
            room = min(COMPARED, edge.context - len(prompt))
            if room < 1:
                continue
            made = model.generate(
                torch.tensor([prompt]), max_new_tokens=room, min_new_tokens=room, do_sample=False, pad_token_id=0
            )[0].tolist()
            for at in range(len(prompt), len(made)):
                same += edge.next_token(made[:at]) == made[at]
                total += 1
    return {"same": same, "tokens": total, "share": round(same / total, 4) if total else None}


class EdgeModel:
    """A folder of ``export_edge``, checked and loaded.

    Raises:
        BadInputError: it is no such folder.
        IntegrityError: a file is not the one that was exported.
    """

    def __init__(self, folder: Path, threads: int = 0) -> None:
        from openvino_genai import ContinuousBatchingPipeline, SchedulerConfig
        from tokenizers import Tokenizer

        self.folder, self.facts = folder, read_facts(folder)
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        config = json.loads((folder / "config.json").read_text())
        self.context = int(config["max_position_embeddings"])
        generation = _json(folder / "generation_config.json")
        ends = generation.get("eos_token_id", config.get("eos_token_id"))
        self.ends = {int(end) for end in (ends if isinstance(ends, list) else [ends]) if end is not None}
        self.template, self.specials = _template(folder)
        scheduler = SchedulerConfig()
        scheduler.enable_prefix_caching = True
        scheduler.num_kv_blocks = min(self.context, 4096) // KV_BLOCK + 2
        settings: dict[str, Any] = {**EXACT, **({"INFERENCE_NUM_THREADS": threads} if threads else {})}
        self.pipeline = ContinuousBatchingPipeline(str(folder), scheduler, "CPU", settings)
        self.requests = 0

    @property
    def bytes(self) -> int:
        """Size of the folder on disk."""
        return sum(path.stat().st_size for path in self.folder.iterdir() if path.is_file())

    def encode(self, question: str) -> list[int]:
        """The ids of a question, in the model's chat template where it has one."""
        if not self.template:
            return list(self.tokenizer.encode(question).ids)
        said = [{"role": "user", "content": question}]
        text = self.template.render(messages=said, add_generation_prompt=True, **self.specials)
        return list(self.tokenizer.encode(text, add_special_tokens=False).ids)

    def tokens(self, prompt: list[int], new_tokens: int = NEW_TOKENS, obey_end: bool = True) -> Iterator[int]:
        """Greedy tokens one by one, until the model ends or ``new_tokens`` are said.

        Raises:
            BadInputError: the prompt is empty, or leaves no room in the context.
        """
        import numpy as np
        import openvino
        from openvino_genai import GenerationConfig

        if new_tokens < 1:
            raise UsageError(f"--tokens {new_tokens}: an answer has one token at least")
        room = min(self.context, 4096) - len(prompt)
        if not prompt or room < 1:
            raise BadInputError(f"the question takes {len(prompt)} tokens, and the model reads {self.context}")
        config = GenerationConfig()
        config.max_new_tokens, config.do_sample = min(new_tokens, room), False
        config.set_eos_token_id(min(self.ends, default=0))
        config.stop_token_ids = self.ends
        config.ignore_eos = not obey_end or not self.ends
        self.requests += 1
        tensor = openvino.Tensor(np.array([prompt], dtype=np.int64))
        handle = self.pipeline.add_request(self.requests, tensor, config)
        while self.pipeline.has_non_finished_requests():
            self.pipeline.step()
            while handle.can_read():
                for output in handle.read().values():
                    yield from output.generated_ids

    def next_token(self, prompt: list[int]) -> int:
        """The most likely token after a prompt."""
        return next(iter(self.tokens(prompt, 1, obey_end=False)))

    def answer(self, question: str, new_tokens: int = NEW_TOKENS) -> dict[str, Any]:
        """What the model says to a question, and what it took: seconds to the first token, milliseconds a token
        (median), the most memory this process ever had."""
        began = time.monotonic()
        said, at = [], []
        for token in self.tokens(self.encode(question), new_tokens):
            said.append(token)
            at.append(time.monotonic())
        gaps = sorted(later - earlier for earlier, later in pairwise(at))
        return {
            "text": self.tokenizer.decode([token for token in said if token not in self.ends]).strip(),
            "tokens": len(said),
            "first_token_s": round(at[0] - began, 3) if at else None,
            "token_ms_p50": round(1000 * gaps[len(gaps) // 2], 2) if gaps else None,
            "rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            "bytes": self.bytes,
            "agreement": self.facts.get("agreement"),
        }


def read_facts(folder: Path) -> dict[str, Any]:
    """edge.json of a folder whose files are those that were exported.

    Raises:
        BadInputError: it has none. IntegrityError: a file is missing, damaged or another one (a tokenizer, say).
    """
    facts = _json(folder / FACTS)
    if not facts.get("files"):
        raise BadInputError(f"{folder} is no exported model: `plinth edge export MODEL --output {folder}` makes one")
    found = _hashes(folder)
    # A file that was added counts too: a template or a generation_config.json beside the model changes its answers.
    if wrong := sorted(name for name in found.keys() | facts["files"] if found.get(name) != facts["files"].get(name)):
        raise IntegrityError(
            f"{folder}: {wrong[0]} is not the file that was exported: damaged or changed", file=wrong[0]
        )
    return facts


def _hashes(folder: Path) -> dict[str, str]:
    found = {}
    for path in sorted(folder.iterdir()):
        if path.is_file() and path.name != FACTS:
            with path.open("rb") as handle:
                found[path.name] = hashlib.file_digest(handle, "sha256").hexdigest()
    return found


def _write(folder: Path, facts: Mapping[str, Any]) -> None:
    (folder / FACTS).write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except ValueError as error:
        raise BadInputError(f"{path} is no JSON: {str(error)[:100]}") from None
    return found if isinstance(found, dict) else {}


def _template(folder: Path) -> tuple[Any, dict[str, str]]:
    """The chat template, for the sandbox that transformers renders it in, and the special tokens it may name."""
    from jinja2 import TemplateError
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    config = _json(folder / "tokenizer_config.json")
    file = folder / "chat_template.jinja"
    text = file.read_text(encoding="utf-8") if file.is_file() else config.get("chat_template") or ""
    names = {key: value for key, value in config.items() if key.endswith("_token")}
    specials = {
        key: str(value.get("content", "") if isinstance(value, dict) else value or "") for key, value in names.items()
    }
    if not isinstance(text, str) or not text:
        return None, specials
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    environment.globals["raise_exception"] = _raise
    try:
        return environment.from_string(text), specials
    except TemplateError as error:
        raise UnsupportedError(f"the chat template of {folder} cannot be read: {str(error)[:200]}") from None


def _raise(message: str) -> None:
    raise BadInputError(f"the model's chat template refuses this question: {message[:200]}")
