"""Images and captions: what the towers learn, and that their loss is CLIP's."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cluster.core.config import PlinthConfig
from cluster.core.progress import Silent
from cluster.core.storage import Store
from tests.train_jobs.corpora import SECTION
from tests.train_jobs.recipes.encoders import make_encoder
from tests.train_jobs.recipes.in_process import InProcess

pytestmark = pytest.mark.process  # torch takes seconds to import
COLOURS = {"red": (255, 0, 0), "green": (0, 160, 0), "blue": (0, 0, 255), "black": (0, 0, 0), "pink": (255, 150, 200)}
PLACES = {"left": (0, 20), "right": (40, 20), "top": (20, 0), "bottom": (20, 40)}


def drawings(folder: Path) -> str:
    from PIL import Image, ImageDraw

    rows = []
    for colour, shade in COLOURS.items():
        for place, (x, y) in PLACES.items():
            for size in (14, 18, 22):
                image = Image.new("RGBA", (60, 60), (0, 0, 0, 0))
                ImageDraw.Draw(image).rectangle((x, y, x + size, y + size), fill=(*shade, 255))
                name = f"{colour}-{place}-{size}.png"
                image.save(folder / name)
                rows.append(
                    {"file": name, "caption": colour, "tags": [place], "split": "test" if size == 18 else "train"}
                )
    (folder / "broken.png").write_bytes(b"\x89PNG nothing")
    rows += [
        {"file": "../x.png", "caption": "x"},
        {"file": "broken.png", "caption": "x"},
        {"file": "no.png", "caption": "x"},
    ]
    path = folder / "captions.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_images_find_their_captions(home, tmp_path: Path) -> None:
    from train_jobs.recipes.image_text import train_image_text

    store = Store(str(tmp_path / "store"))
    folder = tmp_path / "images"
    folder.mkdir()
    data = drawings(folder)
    base = make_encoder(tmp_path / "tiny", {*COLOURS, *PLACES, ","})
    config = PlinthConfig(train=SECTION.model_copy(update={"steps": 100}))
    made = train_image_text(config, store, data, base, "shapes", Silent(), rate=1e-3, pairs=20, workers=InProcess())
    counts = made.counts
    assert counts["refused_rows"] == 3
    assert counts["held_out_images"] == 20
    assert counts["held_out_loss_at_start"] == pytest.approx(3.0, abs=0.6)  # the logarithm of 20
    assert counts["held_out_loss"] < counts["held_out_loss_at_start"] - 1
    assert counts["held_out_recall_at_10"] > 0.9


def test_the_loss_is_that_of_clip() -> None:
    import torch

    from train_jobs.objectives.image_text import clip_loss

    generator = torch.Generator().manual_seed(0)
    images, texts = (torch.nn.functional.normalize(torch.randn(4, 3, generator=generator), dim=1) for _ in range(2))
    wanted = 0.0
    for n in range(4):
        rows = 5 * images[n] @ texts.T, 5 * texts[n] @ images.T
        wanted += sum(float(torch.logsumexp(row, 0) - row[n]) for row in rows) / 8
    assert float(clip_loss(images, texts, torch.tensor(5.0))) == pytest.approx(wanted, rel=1e-5)
