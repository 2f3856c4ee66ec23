"""Small towers for images and captions: contrastive learning over {file, caption} rows."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cluster.core.config import PlinthConfig
from cluster.core.progress import Progress
from cluster.core.records import Manifest, stable_hash
from cluster.core.run_keys import RunKey
from cluster.core.sections.data import IndexSection
from cluster.core.storage import Store
from train_jobs.data.batches import Arrays
from train_jobs.models.encoders import TowersSpec
from train_jobs.recipes.encoder_folder import find_encoder
from train_jobs.recipes.rows import BadRowError, Row, read_rows, text_of, texts_of
from train_jobs.recipes.training import (
    KEY_INSIDE,
    KEY_OUTSIDE,
    Finished,
    Training,
    begin,
    carry_out,
    request,
    steps_over,
)
from train_jobs.trainer.unfinished import CodeChange

if TYPE_CHECKING:
    from train_jobs.launch import TrainingWorkers

KIND = "image_text"
KEY = RunKey("image_text", (__name__,), inside=KEY_INSIDE, outside=KEY_OUTSIDE)
RATE, PAIRS, EPOCHS = 1e-3, 128, 30.0
PIXELS = 32
MOST_PIXELS = 50_000_000  # of a file
MOST_BYTES = 32 << 20


def train_image_text(
    config: PlinthConfig, store: Store, data: str, base: str, name: str, progress: Progress, epochs: float = EPOCHS,
    rate: float = RATE, pairs: int = PAIRS, workers: TrainingWorkers | None = None,
    code_change: CodeChange = None,
) -> Manifest:  # fmt: skip
    """Train towers on captioned images and publish ``image_text/<name>``.

    Args:
        data: a JSONL file of {file, caption, tags?}; files lie below its folder.
        base: the embedder of the captions, which stays as it is.

    Raises:
        BadInputError: too few good rows.
        PlinthError: what ``find_encoder`` and ``carry_out`` raise.
    """
    section = config.train
    folder = Path(data).expanduser().parent
    progress.stage("read images")
    rows = read_rows(data, lambda row: parse(row, folder), section.held_out, least=10)
    encoder = find_encoder(store, base)
    # The rows only name the images, which therefore are an input by themselves.
    images = stable_hash(sorted(row["sha256"] for row in (*rows.train, *rows.held_out)))
    inputs = {"data": rows.reference, "images": f"images@{images[:12]}", "base": encoder.reference}
    asked = request(KEY, "image_text", KIND, name, inputs, section, code_change, epochs=epochs, rate=rate, pairs=pairs)
    if (found := begin(store, asked)) is not None:
        return found
    arrays = rows.arrays(lambda found: arrays_of(found, str(encoder.folder)))
    spec = TowersSpec(PIXELS, int(encoder.files.identity["dim"]))
    return carry_out(
        Training(
            asked, rows.counts, spec, arrays, 0, None, rate, steps_over(section, len(rows.train), pairs, epochs),
            lambda finished: (files_of(finished, encoder.reference), {"held_out_images": len(rows.held_out)}),
            len(rows.train), pairs, {"pairs": pairs},
        ),
        section, store, progress, workers,
    )  # fmt: skip


def parse(row: Mapping[str, Any], folder: Path) -> Row:
    """A row of {file, caption, tags?} with its pixels, uint8 [3, P, P], transparent ones white.

    Raises:
        BadRowError: something is missing, or the file is no image below the folder.
    """
    import hashlib

    from PIL import Image

    name, caption = text_of(row, "file"), text_of(row, "caption")
    try:
        path = (folder / name).resolve()
        if not path.is_relative_to(folder.resolve()):
            raise BadRowError(f"file {name!r} leaves the folder")
        if not path.is_file() or path.stat().st_size > MOST_BYTES:
            raise BadRowError(f"{name} is no file of at most {MOST_BYTES >> 20} MiB")
        body = path.read_bytes()
        with Image.open(path) as image:
            if image.width * image.height > MOST_PIXELS:
                raise BadRowError(f"{name} has {image.width} x {image.height} pixels")
            seen = image.convert("RGBA").resize((PIXELS, PIXELS), Image.Resampling.BOX)
    except (OSError, ValueError, RuntimeError, SyntaxError, Image.DecompressionBombError) as error:
        if isinstance(error, BadRowError):
            raise
        raise BadRowError(f"{name} is no readable image ({type(error).__name__})") from None
    white = Image.new("RGBA", seen.size, "white")
    white.alpha_composite(seen)
    pixels = np.asarray(white.convert("RGB"), dtype=np.uint8).transpose(2, 0, 1)
    text = ", ".join([caption, *texts_of(row, "tags")])
    return {"key": caption, "pixels": pixels, "text": text, "sha256": hashlib.sha256(body).hexdigest()}


def arrays_of(rows: list[Row], embedder: str) -> Arrays:
    """``images`` uint8 [n, 3, P, P] and ``texts`` float32 [n, d], the captions' vectors."""
    from data_jobs.retrieval.embedder import load_embedder

    section = IndexSection(embedder=embedder, document_encoder="same", precision="fp32")
    vectors = load_embedder(section).encode([row["text"] for row in rows])
    return {"images": np.stack([row["pixels"] for row in rows]), "texts": vectors}


def files_of(finished: Finished, embedder: str) -> dict[str, bytes]:
    """Weights, and what is needed to use them: sizes and the captions' embedder."""
    from safetensors.torch import save

    about = {**finished.plan.model.to_dict(), "embedder": embedder}
    return {
        "model.safetensors": save(finished.weights, metadata={"format": "pt"}),
        "config.json": json.dumps(about, indent=1).encode(),
    }
