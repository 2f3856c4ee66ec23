"""Label noise: flipped labels are found again, ranked, with the right suggestion; bad files end with a clear error."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest

from cluster.cli.main import main
from cluster.core.errors import BadInputError
from cluster.core.progress import Silent
from data_jobs.filters.labels import (
    LabelledRow,
    check_labels,
    confident_joint,
    deal_folds,
    flip_labels,
    noise_matrix,
    normalised_margins,
    read_labelled,
    score,
)

WORDS = {
    "fruit": ["apple", "pear", "plum", "cherry", "grape", "melon", "peach", "fig", "quince", "mango"],
    "tool": ["hammer", "saw", "drill", "chisel", "wrench", "pliers", "file", "vice", "plane", "level"],
    "boat": ["mast", "keel", "rudder", "sail", "anchor", "hull", "deck", "bow", "stern", "tiller"],
}
FILLER = ["the", "a", "with", "and", "of", "in", "on", "very", "some", "this"]


def rows_of(each: int, seed: int = 0) -> list[LabelledRow]:
    picker = random.Random(seed)
    made = [
        (" ".join(picker.choices(words, k=4) + picker.choices(FILLER, k=3)) + f" {i}", label)
        for label, words in WORDS.items()
        for i in range(each)
    ]
    picker.shuffle(made)
    return [LabelledRow(n, text, label) for n, (text, label) in enumerate(made, start=1)]


def write(path: Path, rows: list[object]) -> Path:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


# -- the algorithm -----------------------------------------------------------------------------------------------------
def test_the_joint_of_the_paper_by_hand() -> None:
    """Two classes; thresholds are 0.7 (mean of 0.9 0.8 0.4) and 0.6 (0.7 0.9 0.2); row 2 passes that of class 1, row
    5 that of class 0, so one in three of each label is counted for the other."""
    given = np.array([0, 0, 0, 1, 1, 1])
    of_zero = np.array([0.9, 0.8, 0.4, 0.3, 0.1, 0.8])
    joint = confident_joint(given, np.stack([of_zero, 1 - of_zero], axis=1))
    assert joint.tolist() == [[2.0, 1.0], [1.0, 2.0]]
    assert noise_matrix(joint)[0].round(4).tolist() == [0.6667, 0.3333]
    margins = normalised_margins(given, np.stack([of_zero, 1 - of_zero], axis=1))
    assert margins.round(2).tolist() == [0.8, 0.6, -0.2, 0.4, 0.8, -0.6]


def test_flipped_labels_are_listed_first_with_the_true_label_suggested() -> None:
    rows = rows_of(60)
    flipped, wrong = flip_labels(rows, 0.1, seed=3)
    report = check_labels(flipped, Silent())
    found = score(report.suspects, wrong, len(rows), (len(wrong),))
    assert len(wrong) == 18
    assert found["precision"] >= 0.9
    assert found["recall"] >= 0.8
    true = {row.line: row.label for row in rows}
    top = report.suspects[:15]
    assert sum(one.suggested == true[one.line] for one in top) >= 14
    assert [one.margin for one in report.suspects] == sorted(one.margin for one in report.suspects)
    assert abs(report.noise - 0.1) < 0.05
    assert all(sum(shares.values()) == pytest.approx(1, abs=1e-3) for shares in report.noise_matrix.values())


def test_clean_labels_are_left_in_peace() -> None:
    report = check_labels(rows_of(40), Silent())
    assert report.suspects == ()
    assert report.noise == 0
    assert report.accuracy == 1


def test_noise_of_one_direction_is_told_as_such() -> None:
    rows, moved = [], 0
    for row in rows_of(60):
        to_tool = row.label == "fruit" and moved < 15
        moved += to_tool
        rows.append(LabelledRow(row.line, row.text, "tool" if to_tool else row.label))
    matrix = check_labels(rows, Silent()).noise_matrix
    # A quarter of the fruit is called a tool. Counting confident rows only, the paper's estimate errs downwards.
    assert 0.1 < matrix["fruit"]["tool"] < 0.3
    assert (
        max(share for true in matrix for given, share in matrix[true].items() if true != given)
        == (matrix["fruit"]["tool"])
    )


def test_copies_of_a_text_share_a_fold_and_a_seed_gives_the_same_list() -> None:
    rows = rows_of(20)
    rows += [LabelledRow(100 + row.line, f" {row.text.upper()}", row.label) for row in rows]
    folds = deal_folds(rows, 5, seed=1)
    assert folds[:60].tolist() == folds[60:].tolist()
    assert set(folds.tolist()) == set(range(5))
    flipped, _ = flip_labels(rows_of(20), 0.1, seed=1)
    assert check_labels(flipped, Silent(), seed=4) == check_labels(flipped, Silent(), seed=4)


# -- bad input ---------------------------------------------------------------------------------------------------------
def test_too_few_rows_of_a_class_and_a_single_class_are_refused_by_name() -> None:
    rows = [*rows_of(10), LabelledRow(99, "quite alone", "rare")]
    with pytest.raises(BadInputError, match=r"1 of 4 classes have fewer than 5 different texts \('rare' 1\)"):
        check_labels(rows, Silent())
    copies = [LabelledRow(n, "the same words", "rare") for n in range(50, 60)]
    with pytest.raises(BadInputError, match="'rare' 1"):
        check_labels([*rows_of(10), *copies], Silent())
    with pytest.raises(BadInputError, match="every row is labelled 'fruit'"):
        check_labels([row for row in rows_of(10) if row.label == "fruit"], Silent())
    with pytest.raises(BadInputError, match="no words"):
        check_labels([LabelledRow(n, "?!" * (n + 1), "ab"[n % 2]) for n in range(20)], Silent())


def test_unusable_rows_are_quarantined_with_their_line(tmp_path: Path) -> None:
    good = [{"text": "good row", "label": 3}, {"text": "another", "label": "x"}]
    bad = ["{not json", "[1, 2]", {"text": "no label"}, {"text": "  ", "label": "x"}, {"text": "t", "label": [1]}]
    rows, quarantined = read_labelled(write(tmp_path / "set.jsonl", [*good, *bad, ""]))
    assert [(row.line, row.label) for row in rows] == [(1, "3"), (2, "x")]
    assert [(q.source, q.reason) for q in quarantined] == [
        ("set.jsonl:3", "invalid_json"), ("set.jsonl:4", "not_an_object"), ("set.jsonl:5", "missing_field"),
        ("set.jsonl:6", "empty_text"), ("set.jsonl:7", "bad_label"),
    ]  # fmt: skip


def test_a_file_without_the_fields_says_which_there_are(tmp_path: Path) -> None:
    path = write(tmp_path / "set.jsonl", [{"utterance": "hello", "intent": "greet"}])
    with pytest.raises(BadInputError, match=r"no row has a usable 'text' and 'label' \(fields there: intent, utter"):
        read_labelled(path)
    with pytest.raises(BadInputError, match="cannot read"):
        read_labelled(tmp_path / "absent.jsonl")
    (tmp_path / "binary.jsonl").write_bytes(b"\xff\xfe\x00\x01" * 50)
    with pytest.raises(BadInputError, match="no row"):
        read_labelled(tmp_path / "binary.jsonl")


# -- the verb ----------------------------------------------------------------------------------------------------------
def test_the_verb_writes_every_suspect_and_reports_the_flips(
    tmp_path: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "set.jsonl", [{"t": row.text, "y": row.label} for row in rows_of(40)])
    out = tmp_path / "out.jsonl"
    arguments = ["data", "labels", "check", str(path), "--text", "t", "--label", "y", "--out", str(out), "--top", "3"]
    assert main([*arguments, "--flip", "0.1", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    listed = [json.loads(line) for line in out.read_text().splitlines()]
    assert len(listed) == printed["suspects"] == printed["flipped"]["listed"]
    assert len(printed["top"]) == 3
    assert printed["flipped"]["recall"] >= 0.8
    assert listed[0]["rank"] == 1 and listed[0]["given"] != listed[0]["suggested"]  # noqa: PT018
    assert main(arguments) == 0
    assert "0 suspects" in capsys.readouterr().out
    assert main([*arguments, "--flip", "0.1"]) == 0
    assert "Probably labelled wrong" in capsys.readouterr().out
    assert main([*arguments[:4], "--json"]) == 3
    assert main([*arguments, "--folds", "1"]) == 2


@pytest.mark.process
@pytest.mark.slow
@pytest.mark.ci
def test_ten_percent_flips_on_banking77(data_set) -> None:
    """77 intents, several of them near each other. Random order has precision 0.1 at every k."""
    rows, bad = read_labelled(data_set("cls_banking77") / "train.jsonl")
    flipped, wrong = flip_labels(rows, 0.1, seed=1)
    report = check_labels(flipped, Silent())
    found = score(report.suspects, wrong, len(rows), (100, 500, len(wrong)))
    print(json.dumps(found))
    assert bad == []
    assert found["precision_at"]["100"] >= 0.9
    assert found["precision_at"]["500"] >= 0.85
    assert found["precision_at"][str(len(wrong))] >= 0.7
    assert found["recall"] >= 0.7
