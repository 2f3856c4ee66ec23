"""A byte-level BPE tokenizer trained on a dataset (Sennrich et al. 2016; bytes as in GPT-2, so no text is unknown).

The special tokens of the prompt come first, each as one id. The artefact loads with transformers' AutoTokenizer without
this project. Held-out documents are not read.
"""

from __future__ import annotations

import hashlib
import json
import posixpath
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from cluster.core.config import PlinthConfig
from cluster.core.errors import BadInputError, IncompatibleError, IntegrityError
from cluster.core.progress import Progress
from cluster.core.records import Document, Manifest
from cluster.core.run_keys import RunKey, sections_but
from cluster.core.sections.train import ARCHITECTURE, LORA, PACE, PRIVACY, SIZE, STEPS
from cluster.core.storage import Store
from cluster.core.telemetry import log_event
from data_jobs.corpus.tokens import document_text
from train_jobs.answering.special_tokens import BOS, EOS, PAD, SPECIAL_TOKENS
from train_jobs.data.batches import check_documents, read_documents

if TYPE_CHECKING:
    from tokenizers import Tokenizer

KIND = "tokenizers"
ALIAS = "latest"
FILES = ("tokenizer.json", "tokenizer_config.json")
MAX_CHARS = 64_000_000  # BPE statistics do not get better with more; memory does get worse
KEY = RunKey(
    "tokenizer", (__name__,),
    inside=("train.name", "train.vocab_size", "train.held_out", "train.context_tokens"),
    outside=(*sections_but("train"), *SIZE, *ARCHITECTURE, *LORA, *STEPS, *PACE, *PRIVACY,
             "train.seed", "train.examples"),
)  # fmt: skip


def train_tokenizer(config: PlinthConfig, store: Store, dataset: Manifest, progress: Progress) -> Manifest:
    """Train and publish ``tokenizers/<train.name>`` from a dataset; an identical earlier run is reused.

    Raises:
        BadInputError: the dataset has fewer than ``train.min_documents`` documents.
        EnvironmentFaultError: the store cannot be written.
    """
    section = config.train
    check_documents(section, dataset, labelled=config.data.train_labelled)
    settings = KEY.settings(section)
    inputs = {"dataset": f"{dataset.name}@{dataset.version}"}
    key = KEY(inputs=inputs, config=settings)
    manifest = store.find_run(key)
    if manifest is None:
        progress.stage("train tokenizer")
        documents = [d for d in read_documents(store, dataset, section.held_out) if not d.held_out]
        tokenizer = fit((d.document for d in documents), section.vocab_size)
        folder = posixpath.join(store.staging(key), "artefact")
        for name, body in files_of(tokenizer, section.context_tokens).items():
            store.write(posixpath.join(folder, name), body)
        counts = {"tokens": tokenizer.get_vocab_size(), "documents": len(documents), "special": len(SPECIAL_TOKENS)}
        manifest = store.publish(KIND, section.name, folder, run_key=key, inputs=inputs, config=settings, counts=counts)
        if store.exists(emptied := store.staging(key)):  # object stores keep no empty folders
            store.fs.rm(emptied, recursive=True)
        log_event("train", "tokenizer_published", tokenizer=manifest.name, version=manifest.version, counts=counts)
    store.move_alias(KIND, manifest.name, ALIAS, manifest.version, why=f"trained on {inputs['dataset']}")
    return manifest


def fit(documents: Iterator[Document], vocab_size: int) -> Tokenizer:
    """Train on documents until ``vocab_size`` tokens exist (fewer where the corpus is too small for that many)."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, special_tokens=list(SPECIAL_TOKENS), show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), min_frequency=2,
    )  # fmt: skip
    tokenizer.train_from_iterator(_limited(documents), trainer)
    return tokenizer


def _limited(documents: Iterator[Document]) -> Iterator[str]:
    left = MAX_CHARS
    for document in documents:
        text = document_text(document)
        yield text[:left]
        left -= len(text)
        if left <= 0:
            return


def files_of(tokenizer: Tokenizer, context_tokens: int) -> dict[str, bytes]:
    """The files transformers expects beside a model."""
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": context_tokens, "bos_token": BOS,
        "eos_token": EOS, "pad_token": PAD, "clean_up_tokenization_spaces": False, "padding_side": "right",
    }  # fmt: skip
    return {
        "tokenizer.json": tokenizer.to_str().encode(),
        "tokenizer_config.json": json.dumps(config, indent=1).encode(),
    }


def load_tokenizer(store: Store, manifest: Manifest) -> Tokenizer:
    """The verified tokenizer of an artefact that holds one (a tokenizer or a checkpoint).

    Raises:
        IntegrityError: its bytes do not match the manifest.
        IncompatibleError: it is not one of ours: the special tokens are not where they must be.
    """
    from tokenizers import Tokenizer

    store.verify(manifest)
    tokenizer = Tokenizer.from_str(store.read(posixpath.join(store.artefact(manifest), "tokenizer.json")).decode())
    check_special_tokens(tokenizer, f"{manifest.kind} {manifest.name}@{manifest.version}")
    return tokenizer


def check_special_tokens(tokenizer: Tokenizer, where: str) -> None:
    """Refuse a tokenizer that does not know the special tokens of the prompt, each as one id."""
    wrong = [token for token in SPECIAL_TOKENS if tokenizer.token_to_id(token) is None]
    if wrong:
        raise IncompatibleError(
            f"the tokenizer of {where} was made for another prompt format ({len(wrong)} of {len(SPECIAL_TOKENS)} "
            f"special tokens are missing, {wrong[0]} first): train it again with `plinth train tokenizer`, or take a "
            "model with its tokenizer by `plinth train base`"
        )


def tokenizer_of(store: Store, reference: str) -> tuple[str, Tokenizer]:
    """The hash and the tokenizer of NAME or NAME@VERSION, of a tokenizer, checkpoint or model, or of a folder.

    Raises:
        BadInputError: there is none.
        IntegrityError: it does not match its manifest.
    """
    from tokenizers import Tokenizer

    path = Path(reference).expanduser() / "tokenizer.json"
    if path.is_file():
        body = path.read_bytes()
        return digest(body), Tokenizer.from_str(body.decode())
    name, _, version = reference.partition("@")
    for kind in (KIND, "checkpoints", "models"):
        known = store.versions(kind, name) if name in store.names(kind) else []
        found = next((one for one in reversed(known) if version in ("", one.version)), None)
        if found is None:
            continue
        body = store.read(posixpath.join(store.artefact(found), "tokenizer.json"))
        if digest(body) != tokenizer_hash(found):
            raise IntegrityError(f"the tokenizer of {kind} {name}@{found.version} does not match its manifest")
        return digest(body), Tokenizer.from_str(body.decode())
    raise BadInputError(f"there is no tokenizer, checkpoint or model {reference!r}, and no folder with tokenizer.json")


def special_ids(tokenizer: Tokenizer) -> tuple[int, int, int]:
    """The ids of begin, end and padding.

    Raises:
        IncompatibleError: the tokenizer lacks one of them.
    """
    bos, eos, pad = (tokenizer.token_to_id(token) for token in (BOS, EOS, PAD))
    if bos is None or eos is None or pad is None:
        raise IncompatibleError(f"the tokenizer has not all of {BOS} {EOS} {PAD}: `plinth train base` adds them")
    return bos, eos, pad


def tokenizer_hash(manifest: Manifest) -> str:
    """What tells the tokenizer of an artefact from others: the sha256 of its tokenizer.json; empty without one."""
    return next((entry.sha256 for entry in manifest.files if entry.path == "tokenizer.json"), "")


def check_same_tokenizer(store: Store, made: Manifest, base: Manifest) -> None:
    """Refuse what was made with another tokenizer than a model's: token ids of one are noise to the other.

    Args:
        made: an artefact whose ``inputs`` name its tokenizer (examples, token shards).
        base: a checkpoint, which holds its own.

    Raises:
        IncompatibleError: the tokenizers are not the same bytes; both are named with their hashes.
    """
    reference = made.inputs.get("tokenizer", "")
    name, _, version = reference.partition("@")
    theirs, ours = tokenizer_hash(store.manifest(KIND, name, version)) if version else "", tokenizer_hash(base)
    if theirs != ours:
        raise IncompatibleError(
            f"{made.kind} {made.name}@{made.version} were made with the tokenizer {reference or 'of nobody'} (sha256 "
            f"{theirs[:12] or 'none'}), and {base.name}@{base.version} was trained with "
            f"{base.inputs.get('tokenizer', 'its own')} (sha256 {ours[:12] or 'none'}): make them again with that one"
        )


def digest(tokenizer_json: bytes) -> str:
    """What tells tokenizers apart: the sha256 of tokenizer.json."""
    return hashlib.sha256(tokenizer_json).hexdigest()


__all__ = [
    "ALIAS",
    "FILES",
    "KIND",
    "check_same_tokenizer",
    "check_special_tokens",
    "digest",
    "files_of",
    "fit",
    "load_tokenizer",
    "special_ids",
    "tokenizer_hash",
    "tokenizer_of",
    "train_tokenizer",
]
