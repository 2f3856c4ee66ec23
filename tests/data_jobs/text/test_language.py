"""Language identification: what is known is right nearly always, and what cannot be known is not claimed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from data_jobs.text.language import detect, known_languages

# The codes of the data set that mean one of ours: a macrolanguage, or its individual language.
SAME = {"als": "sq", "nb": "no"}


@pytest.mark.parametrize("text", ["", "12345 67890 +-*/ 3.14", "Return it.", "x = f(1)", "⠁⠂⠃⠄⠅⠆⠇⠈⠉⠊⠋⠌⠍"])
def test_what_does_not_tell_is_undetermined(text: str) -> None:
    assert detect(text)[0] == "und"


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("Return a shallow copy of the list and of every key in it.", "en"),
        ("Alle Menschen sind frei und gleich an Würde und Rechten geboren.", "de"),
        ("人人生而自由，在尊严和权利上一律平等。", "zh"),
        ("Все люди рождаются свободными и равными в своем достоинстве.", "ru"),
        ("Permission is hereby granted, free of charge. " * 3 + "El perro come en la casa grande. " * 200, "es"),
    ],
)  # fmt: skip
def test_sentences(text: str, language: str) -> None:
    found, probability = detect(text)
    assert found == language
    assert 0.5 <= probability <= 1


def test_accuracy_on_the_declaration_of_human_rights(
    data_set: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [json.loads(line) for line in (data_set("multi_udhr") / "udhr.jsonl").read_text().splitlines()]
    known, counts = known_languages(), {"texts": [0, 0, 0], "paragraphs": [0, 0, 0]}
    strange = []
    for row in rows:
        wanted = SAME.get(row["bcp47"].split("-")[0], row["bcp47"].split("-")[0])
        paragraphs = [p for p in row["text"].split("\n") if len(p) >= 60][:30]
        if wanted not in known:
            strange.append((wanted, detect(row["text"])[0]))
            continue
        for name, texts in (("texts", [row["text"]]), ("paragraphs", paragraphs)):
            for text in texts:
                found = detect(text)[0]
                counts[name][0] += found == wanted
                counts[name][1] += found not in (wanted, "und")
                counts[name][2] += 1
    with capsys.disabled():
        for name, (right, wrong, total) in counts.items():
            print(f"\nlanguage, udhr {name}: {right / total:.3f} right, {wrong / total:.3f} wrong, of {total}", end=" ")
        print(f"\nlanguages the model has not: {strange}")
    assert counts["texts"][2] > 70
    assert counts["texts"][0] >= 0.96 * counts["texts"][2]
    assert counts["paragraphs"][0] >= 0.90 * counts["paragraphs"][2]
    assert counts["paragraphs"][1] <= 0.05 * counts["paragraphs"][2]
