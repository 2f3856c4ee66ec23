"""``plinth models add``: somebody's Hugging Face causal language model becomes a tier, reachable by name.

It is copied, checked, converted where the converter knows its architecture, and registered as a candidate. It has not
been through the gate, so it never answers ``auto``.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from actors.registry.metadata import check_tier_name
from actors.registry.models import Registry
from cluster.core.config import PlinthConfig
from cluster.core.progress import Progress
from cluster.core.records import Manifest, stable_hash
from cluster.core.sections.tiers import names_taken
from cluster.core.storage import Store, storage_errors
from train_jobs.export.rounding import INT8
from train_jobs.publishing.model_folder import digests, inspect
from train_jobs.publishing.model_probe import Probed, probe
from train_jobs.publishing.publish import Registrar, publish_model

UNKNOWN_LICENCE = "unknown: its publisher stated none"
Weights = Literal["auto", "original", "int8"]
LARGE = 50_000_000  # parameters from which on a token waits for memory rather than for arithmetic
LICENCE = re.compile(r"^license:\s*['\"]?([\w.+ -]{1,80}?)['\"]?\s*$", re.MULTILINE)


def add_model(
    config: PlinthConfig,
    store: Store,
    path: Path,
    tier: str,
    progress: Progress,
    licence: str = "",
    knowledge_cutoff: str = "",
    registry: Registrar | None = None,
    origin: Mapping[str, str] | None = None,
    weights: Weights = "auto",
) -> Manifest:
    """Publish the model in ``path`` as tier ``tier``; ``origin`` says where it comes from (default: its folder).

    With ``weights`` int8 its matrices are rounded to 8 bits, one scale a row: a quarter of the memory, and so much
    sooner a next token where few ask. auto does so for a large model on this machine's CPU where that has no bf16.

    Of a registered model (``origin`` names it as ``model``) what is known stays: format, licence, end of knowledge and
    what it was made from.

    Raises:
        PolicyRefusedError: a reserved name, pickles, code of its own, links out of the folder.
        BadInputError: no causal language model whose weights, tokenizer and chat template work.
        IntegrityError: truncated or malformed safetensors.
        UnsupportedError: an architecture transformers does not know, or quantised weights.
        UsageError: ``tier`` is no usable name, ``knowledge_cutoff`` no date.
        EnvironmentFaultError: no space.
    """
    check_tier_name(tier, names_taken(config.serve.tiers))
    folder = path.expanduser()
    progress.stage("look at the files")
    given = inspect(folder)
    # Only what is on the list is copied, and only the copy is looked at from here on.
    with tempfile.TemporaryDirectory(prefix="plinth-add-") as private, storage_errors(private):
        for name in given.files:
            shutil.copyfile(folder / name, Path(private) / name)
        copied = inspect(Path(private))
        progress.stage("load it with transformers")
        probed = probe(copied)
        known = _registered(store, origin or {})
        hashes = {name: digest for name, digest in digests(copied).items() if name.endswith(".safetensors")}
        facts: dict[str, Any] = {
            "format": known.get("format", "text"),
            "context_tokens": probed.context_tokens,
            "license": licence or known.get("license") or _stated_licence(folder),
            "knowledge_cutoff": knowledge_cutoff or known.get("knowledge_cutoff", ""),
            "provenance": {
                **known.get("provenance", {}),
                **(origin or {"source": f"folder {folder.resolve().name[:100]}"}),
                "weights": stable_hash(hashes),
            },
            **_kept(weights, config.serve.tier(tier).engine, copied.parameters, known),
            "architecture": probed.architecture,
            "chat_template": probed.chat_template,
        }
        return publish_model(config, store, tier, Path(private), facts, _measured(probed), progress, registry=registry)


def _kept(weights: Weights, engine: str, parameters: int, known: Mapping[str, Any]) -> dict[str, str]:
    """What the model's metadata says of its weights; what was rounded before stays so."""
    rounded = weights == INT8 or known.get("weights") == INT8
    if weights == "auto" and not rounded:
        rounded = engine == "openvino" and parameters >= LARGE and not has_bf16()
    return {"weights": INT8} if rounded else {}


def has_bf16() -> bool:
    """Whether OpenVINO multiplies bf16 on this machine's CPU."""
    import openvino

    capabilities: list[str] = openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return "BF16" in capabilities


def _registered(store: Store, origin: Mapping[str, str]) -> dict[str, Any]:
    """The plinth.json of the registered model that ``origin`` names; empty where it names none."""
    name, _, version = origin.get("model", "").partition("@")
    return Registry(store).version(name, version).metadata if version else {}


def _measured(probed: Probed) -> dict[str, Any]:
    return {"loaded": {"architecture": probed.architecture, "vocabulary": probed.vocabulary}}


def _stated_licence(folder: Path) -> str:
    """What the front matter of its README.md says."""
    readme = folder / "README.md"
    if not readme.is_file():
        return UNKNOWN_LICENCE
    with readme.open(encoding="utf-8", errors="replace") as handle:
        found = LICENCE.search(handle.read(4_000))
    return found[1] if found else UNKNOWN_LICENCE
