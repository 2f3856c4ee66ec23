"""Where a model is taken from: one that is registered or was trained here, one in a package, a folder, a hub's id."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from actors.registry.models import KIND, Registry
from cluster.core.home import Home
from cluster.core.records import Manifest
from cluster.core.storage import MANIFEST, Store, storage_errors
from train_jobs.models.hugging_face import source_folder
from train_jobs.publishing import artefact, smollm2
from train_jobs.publishing.model_folder import ALLOWED, INDEX, ModelFolder, inspect


@contextmanager
def model_of(store: Store, source: str) -> Iterator[tuple[ModelFolder, dict[str, str]]]:
    """The checked folder of a model, for the length of a ``with`` block, and where it comes from.

    Args:
        source: NAME or NAME@VERSION of a registered model or of a checkpoint, ``smollm2``, a folder, or a hub's id.

    Raises:
        PlinthError: there is no such model, or it may not be used (``model_folder.inspect``).
    """
    home, (name, _, version) = Home.from_env(), source.partition("@")
    exists = Path(source).expanduser().exists()
    packaged = source == smollm2.NAME and not exists  # the word means the package, whatever is registered
    manifest = None if packaged or exists else _published(store, name, version)
    if manifest is not None:
        with tempfile.TemporaryDirectory(prefix="plinth-model-") as private, storage_errors(private):
            fetched = store.fetch(manifest, home.root / "cache")
            # What was converted for an engine lies beside the model, and looks like nothing that may be loaded.
            for file in sorted(fetched.iterdir()):
                if file.name in (*ALLOWED, INDEX) or file.suffix == ".safetensors":
                    _link(file, Path(private) / file.name)
            yield inspect(Path(private)), {manifest.kind.removesuffix("s"): f"{name}@{manifest.version}"}
    elif packaged:
        with tempfile.TemporaryDirectory(prefix="plinth-model-") as private, storage_errors(private):
            smollm2.write_folder(Path(private))
            yield inspect(Path(private)), smollm2.ORIGIN
    else:
        folder = source_folder(source, home.root / "cache" / "hub")
        origin = {"source": f"folder {folder.path.resolve().name[:100]}" if Path(source).exists() else source}
        yield folder, origin | _copy_of(folder.path)


def _published(store: Store, name: str, version: str) -> Manifest | None:
    if name in store.names(KIND):
        return Registry(store).version(name, version).manifest
    if name in store.names(artefact.KIND):
        return store.manifest(artefact.KIND, name, version or artefact.ALIAS)
    return None


def _copy_of(folder: Path) -> dict[str, str]:
    """Which artefact a folder is a copy of, by the manifest in it: what is known of that holds for it too."""
    try:
        manifest = Manifest.from_dict(json.loads((folder / MANIFEST).read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return {"copy_of": f"{manifest.name}@{manifest.version}"}


def _link(file: Path, to: Path) -> None:
    try:
        os.link(file, to)
    except OSError:
        shutil.copyfile(file, to)
