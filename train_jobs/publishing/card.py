"""The model card: what a model is, what it is for, where it fails, what it was made from, how to make it again.

``build_card`` collects it as plain data (card.json) when the model is published; ``render`` turns that into Markdown.
What was not measured or recorded is left out or said to be unknown, never invented.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from cluster.core.config import PlinthConfig
from cluster.core.errors import BadInputError
from cluster.core.records import Manifest
from cluster.core.storage import Store
from train_jobs.publishing import smollm2

# Where each part named in `provenance` is stored.
KINDS = {"checkpoint": "checkpoints", "base": "checkpoints", "tokenizer": "tokenizers", "examples": "examples",
         "dataset": "datasets", "index": "indexes"}  # fmt: skip
MAX_TEXT = 2_000

WHAT = {
    "points": "A small decoder-only language model that answers by pointing: it reads a question and the best "
    "sentences of the retrieved passages and writes the numbers of the sentences that answer it, or that none does. "
    "The product then quotes those sentences with their source; the model writes no words of its own.",
    "grounded": "A causal language model that writes a short answer from a few quoted sentences of the retrieved "
    "passages. Each statement is checked against the sentence it cites before it leaves: one that says anything else "
    "is replaced by the quotation, one without evidence is dropped.",
    "text": "A causal language model that writes an answer in its own words from the numbered passages it is shown, "
    "and marks them [n].",
}
USE = {
    "points": ["Answering questions about the documents of its index, with the sentences quoted and cited.",
               "Abstaining when the passages shown hold no answer."],
    "grounded": ["Answering questions about the documents of its index in a sentence or two, each with its source.",
                 "Abstaining when the evidence shown holds no answer."],
    "text": ["Answering questions from the retrieved passages, by name; it answers auto only after its gate passed."],
}  # fmt: skip
NOT_FOR = {
    "points": ["Questions that need more than three sentences, arithmetic, or knowledge outside the index.",
               "Conversation, translation, code generation, or any text generation of its own."],
    "grounded": ["Questions that need more than three sentences, arithmetic, or knowledge outside the index.",
                 "Conversation, translation, code generation: what does not stand in the evidence is not let out."],
    "text": ["Decisions that nobody checks: what it writes may be wrong even where it cites a passage."],
}  # fmt: skip
LIMITS = {
    "points": ["It can only be as right as the passages: it repeats what they say, outdated or wrong as it may be.",
               "It was trained on one corpus and its synthetic questions; other languages and subjects are untested.",
               "It knows nothing beyond the passages in its prompt, and at most a dozen of their sentences."],
    "grounded": ["It can only be as right as the passages: it repeats what they say, outdated or wrong as it may be.",
                 "The check compares words: a phrase that restricted a meaning may be left out without being noticed."],
    "text": ["Its training data and behaviour are known only from whoever published it.",
             "No held-out evaluation of it was made here unless one is shown below."],
}  # fmt: skip


# Names of the numbers of a held-out report, for a reader who does not know its keys.
MEASURES = {
    "n": "questions",
    "answerable.n": "answerable questions",
    "answerable.model": "score of the model (token F1 with the gold sentence, 0 when it abstains)",
    "answerable.baseline": "score of the first sentence of the first passage, where the passages support an answer",
    "answerable.quote": "score of the quote tier",
    "answerable.shown": "gold sentence was in the prompt",
    "answerable.abstained": "abstained though answerable",
    "answerable.quote_abstained": "the quote tier abstained though answerable",
    "answerable.unreadable": "completions that name no sentence",
    "unanswerable.n": "unanswerable questions",
    "unanswerable.abstained": "abstained where unanswerable",
    "unanswerable.quote_abstained": "the quote tier abstained where unanswerable",
    "unanswerable.interval": "abstained where unanswerable, 95 % interval",
    "difference": "model minus baseline [95 % interval]",
    "against_quote": "model minus quote [95 % interval]",
    "ece": "calibration error: its certainty against how often it is right",
    "ms.p50": "milliseconds an answer, median (transformers)",
    "ms.p95": "milliseconds an answer, 95th percentile (transformers)",
}


def build_card(
    config: PlinthConfig, store: Store, facts: Mapping[str, Any], metrics: Mapping[str, Any]
) -> dict[str, Any]:
    """The card of a model about to be published.

    Args:
        facts: its ``plinth.json``.
        metrics: its ``metrics.json``: ``training``, ``held_out``, ``conversion`` where they exist.
    """
    kind = str(facts["format"])
    made_from = {part: found for part, found in _sources(store, facts["provenance"])}
    return {
        "name": facts["tier"],
        "what_it_is": WHAT[kind],
        "facts": {key: value for key, value in facts.items() if key != "provenance"},
        "intended_use": USE[kind],
        "not_for": NOT_FOR[kind],
        "limits": LIMITS[kind],
        "provenance": dict(facts["provenance"]),
        "data": {
            part: {"artefact": _name(m), "created_at": m.created_at, "commit": m.commit, "counts": _plain(m.counts)}
            for part, m in made_from.items()
        },
        "training": _plain(metrics.get("training", {})),
        "evaluation": metrics.get("held_out", {}),
        "conversion": metrics.get("conversion", {}),
        "reproduce": _reproduce(config, facts, made_from),
    }


def _sources(store: Store, provenance: Mapping[str, Any]) -> Iterator[tuple[str, Manifest]]:
    for part, kind in KINDS.items():
        name, _, version = str(provenance.get(part, "")).partition("@")
        if not name or not version:
            continue
        try:
            yield part, store.manifest(kind, name, version)
        except BadInputError:  # made elsewhere, or cleared away: the card still names it under provenance
            continue


def _reproduce(config: PlinthConfig, facts: Mapping[str, Any], made_from: Mapping[str, Manifest]) -> dict[str, Any]:
    named = f"--tier {facts['tier']}" + (f" --weights {facts['weights']}" if facts.get("weights") else "")
    if "model" in facts["provenance"]:  # another name for a registered one
        return {"commands": [f"plinth models add {facts['provenance']['model']} {named}"]}
    if "source" in facts["provenance"]:
        if "file" in facts["provenance"]:  # out of a package
            return {"commands": [f"plinth models add {smollm2.NAME} {named}"]}
        return {"commands": [f"plinth models add PATH {named}"],
                "note": "PATH is a folder with the files whose sha256 the manifest lists."}  # fmt: skip
    ours, default = config.train.model_dump(), type(config.train)().model_dump()
    changed = [f"--set train.{key}={value}" for key, value in ours.items() if value != default[key]]
    commits = sorted({m.commit for m in made_from.values() if m.commit})
    dataset = made_from.get("dataset")
    source = str(dataset.config.get("source", "")) if dataset else ""
    quickstart = " ".join(
        ["plinth quickstart", *([f"--source {source}"] if source not in ("", "pydocs") else []), *changed]
    )
    taught = ["plinth train grounded"] if facts["format"] == "grounded" else []
    return {
        "commands": [quickstart, *taught],
        "commits": commits,
        "seed": config.train.seed,
        "note": "With train.steps=0 a stage runs by the clock, so another machine does another number of steps; set "
        "train.steps to the steps recorded under training for the same amount of work.",
    }


def render(card: Mapping[str, Any]) -> str:
    """Markdown of a card. Texts from outside are escaped: no HTML, no broken tables."""
    facts, state = card.get("facts", {}), card.get("state")
    parts = [f"# Model card: {_text(card.get('name', ''))}", _text(card.get("what_it_is", ""))]
    if state:
        parts += _state(state)
    parts += ["## Facts", table(("", ""), facts.items())]
    for title, key in (("Intended use", "intended_use"), ("Not for", "not_for"), ("Limits", "limits")):
        if card.get(key):
            parts += [f"## {title}", "\n".join(f"- {_text(line)}" for line in card[key])]
    parts += ["## Data and provenance", *_provenance(card)]
    if card.get("training"):
        parts += ["## Training", table(("", ""), _flat(card["training"])), "![Loss](loss.png)"]
    parts += ["## Evaluation when it was published", *_evaluation(card.get("evaluation", {}))]
    if card.get("conversion"):
        parts += ["## Conversion for serving", table(("", ""), _flat(card["conversion"]))]
    reproduce = card.get("reproduce", {})
    if reproduce:
        commands = "\n".join(str(line).replace("`", "") for line in reproduce.get("commands", ()))
        parts += ["## How to reproduce", f"```\n{commands}\n```"]
        if reproduce.get("commits"):
            parts.append(
                f"Code: commit {', '.join(map(_text, reproduce['commits']))}; seed {reproduce.get('seed', 0)}."
            )
        parts.append(_text(reproduce.get("note", "")))
    return "\n\n".join(part for part in parts if part) + "\n"


def _state(state: Mapping[str, Any]) -> list[str]:
    aliases = ", ".join(state["aliases"]) or "none"
    lines = [
        "## Now",
        f"Version `{_text(state['version'])}`, registered {_text(state['registered_at'])}. Aliases: {_text(aliases)}. "
        f"Gate: **{_text(state['verdict'])}**.",
    ]
    gate = state.get("gate")
    if gate:
        lines.append(
            _text(f"{gate['reason']} (decided {gate['at']}{', report ' + gate['report'] if gate['report'] else ''})")
        )
        rows = [
            (c["name"], _number(c["value"]), _number(c["threshold"]), "yes" if c["passed"] else "no", c["reason"])
            for c in gate["checks"]
        ]
        lines.append(table(("check", "measured", "wanted", "passed", "why"), rows))
    if state.get("memorization"):
        lines += ["What it repeats of its training data:", table(("", ""), _flat(state["memorization"]))]
    if state.get("moves"):
        moves = [(m["at"], m["event"], m["actor"], m["reason"]) for m in state["moves"]]
        lines.append(table(("when", "what", "by", "why"), moves))
    return lines


def _provenance(card: Mapping[str, Any]) -> list[str]:
    data = card.get("data", {})
    rows = [
        (part, name, data.get(part, {}).get("created_at", ""), data.get(part, {}).get("commit", ""))
        for part, name in card.get("provenance", {}).items()
    ]
    found = [table(("part", "artefact", "made", "code"), rows)]
    for part, info in data.items():
        counts = list(_flat(info["counts"]))
        if counts and part != "checkpoint":  # what it counts is said under training
            found += [f"### {_text(part.capitalize())} {_text(info['artefact'])}", table(("", ""), counts)]
    return found


def _evaluation(report: Mapping[str, Any]) -> list[str]:
    """The held-out report: flat numbers with their intervals, and the score by support as a table of its own."""
    if not report:
        return ["None was made."]
    bands = [band for band in report.get("bands", ()) if isinstance(band, Mapping)]
    slices, calibration = report.get("slices") or {}, report.get("calibration") or {}
    plain = {name: value for name, value in report.items() if name not in ("bands", "slices", "calibration")}
    if "ece" in calibration:
        plain["ece"] = calibration["ece"]
    found = [table(("", ""), [(MEASURES.get(name, name), value) for name, value in _flat(plain)])]
    if slices.get("worst"):
        found.append(f"Worst slice: **{_text(slices['worst'])}**, {_number(slices['gap'])} below all questions.")
    for title, rows in (
        ("Score by slice of the questions:", slices.get("table", ())),
        ("Score by support of the passages:", bands),
        ("Certainty against how often it was right:", calibration.get("bins", ())),
    ):
        if rows:
            columns = tuple(rows[0])
            found += [title, table(columns, [tuple(_number(row.get(one, "")) for one in columns) for row in rows])]
    return found


def _flat(value: Mapping[str, Any], place: str = "") -> Iterator[tuple[str, str]]:
    """(dotted name, text) of every leaf; ``{"low", "high"}`` beside a value is shown as its interval."""
    for key, inner in value.items():
        name = f"{place}{key}"
        if isinstance(inner, Mapping) and {"low", "high"} <= set(inner):
            middle = next((inner[k] for k in ("mean", "value", "difference") if k in inner), None)
            interval = f"[{_number(inner['low'])}, {_number(inner['high'])}]"
            yield name, f"{_number(middle)} {interval}" if middle is not None else interval
            rest = {k: v for k, v in inner.items() if k not in ("low", "high", "mean", "value", "difference")}
            yield from _flat(rest, f"{name}.")
        elif isinstance(inner, Mapping):
            yield from _flat(inner, f"{name}.")
        elif isinstance(inner, list | tuple):
            yield name, f"[{', '.join(map(_number, inner))}]" if len(inner) <= 8 else f"{len(inner)} values"
        else:
            yield name, _number(inner)


def _plain(value: Mapping[str, Any]) -> dict[str, Any]:
    """Without what is no JSON number or text worth a line (long lists)."""
    return {key: inner for key, inner in value.items() if not (isinstance(inner, list | tuple) and len(inner) > 50)}


def _name(manifest: Manifest) -> str:
    return f"{manifest.name}@{manifest.version}"


def _number(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "" if value is None else str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:,.4g}" if abs(value) < 1e4 else f"{value:,.0f}"


def table(columns: Sequence[str], rows: Any) -> str:
    """A Markdown table of plain cells; empty without rows."""
    lines = [f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}"]
    lines += [f"| {' | '.join(_text(_number(cell)) for cell in row)} |" for row in rows]
    return "\n".join(lines) if len(lines) > 2 else ""


def _text(value: Any) -> str:
    """One line that Markdown and HTML read as plain text."""
    text = re.sub(r"[\x00-\x1f\x7f]+", " ", str(value))[:MAX_TEXT]
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("](", "] (")
    return re.sub(r"([\\`*|])", r"\\\1", text)
