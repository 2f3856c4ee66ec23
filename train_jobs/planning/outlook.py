"""What a fitted law and measured speeds say about a run that nobody has made: loss, time, cost, replicas. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cluster.core.errors import BadInputError, UsageError
from train_jobs.planning.capacity import effort, replicas_for
from train_jobs.planning.flops import listed_peak
from train_jobs.planning.scaling import Law, Point

TOKENS_PER_PARAMETER = 20.0  # Hoffmann et al. 2022: where nothing else is asked for
USUAL_MFU = 0.4
SUFFIXES = {"k": 1e3, "m": 1e6, "b": 1e9, "g": 1e9, "t": 1e12}


@dataclass(frozen=True)
class Question:
    """What is asked; 0 and empty where nothing is.

    Attributes:
        parameters, tokens: of the model to be planned. One alone brings the other by ``TOKENS_PER_PARAMETER``.
        hours, money: a budget instead, which the law divides into parameters and tokens.
        price_per_hour: of all devices together.
        device, devices, mfu: another machine than that of the sweep: a name of ``flops.ACCELERATORS``, how many, and
            the share of their peak that is reached.
        requests_per_s, answer_tokens, slo_s: the traffic to be served, and seconds an answer may take.
        serving_tokens_per_s, serving_parameters: what one replica was measured to write (``plinth bench serve``), and
            the size of the model that wrote it.
    """

    parameters: float = 0.0
    tokens: float = 0.0
    hours: float = 0.0
    money: float = 0.0
    price_per_hour: float = 0.0
    device: str = ""
    devices: int = 1
    mfu: float = USUAL_MFU
    requests_per_s: float = 0.0
    answer_tokens: float = 128.0
    slo_s: float = 0.0
    serving_tokens_per_s: float = 0.0
    serving_parameters: float = 0.0


def answer(law: Law, question: Question, measured_flops_per_s: float, flops_a_weight: float) -> dict[str, Any]:
    """Everything that can be said, as plain JSON.

    Args:
        measured_flops_per_s: of the sweep's largest run; 0: not known.
        flops_a_weight: FLOPs of a token for each parameter, as of the largest run: 6 and its share of attention.

    Raises:
        UsageError: a budget of money without a price, or both a budget and a size.
        BadInputError: a device that no table lists, no speed to reckon with, or an SLO that cannot be met.
    """
    speed, source = _speed(question, measured_flops_per_s)
    parameters, tokens = _size(law, question, speed, flops_a_weight)
    predicted = law.predict(parameters, tokens)
    found: dict[str, Any] = {
        "parameters": round(parameters), "tokens": round(tokens), "loss": predicted.to_dict(),
        "beyond_sweep": round(parameters * tokens / max(p.parameters * p.tokens for p in law.points), 2),
        "flops": parameters * flops_a_weight * tokens,
    }  # fmt: skip
    if speed:
        took = effort(tokens, parameters * flops_a_weight, speed, question.price_per_hour)
        found |= {"seconds": round(took.seconds, 1), "flops_per_s": speed, "speed": source}
        if question.price_per_hour:
            found["cost"] = round(took.cost, 4)
    if question.slo_s or question.requests_per_s:
        found["serving"] = _serving(question, parameters)
    return found


def judged(law: Law, point: Point) -> dict[str, Any]:
    """One run that the law did not see, predicted against got."""
    predicted = law.predict(point.parameters, point.tokens)
    return {
        "parameters": point.parameters, "tokens": point.tokens, "predicted": predicted.to_dict(),
        "got": round(point.loss, 4), "off": round(predicted.loss / point.loss - 1, 4),
        "inside": predicted.low <= point.loss <= predicted.high,
    }  # fmt: skip


def amount(text: str) -> float:
    """``125M``, ``2.5B``, ``1e9``, ``20k`` as a number.

    Raises:
        UsageError: it is none, or not more than 0.
    """
    body, factor = text.strip().lower(), 1.0
    if body and body[-1] in SUFFIXES:
        body, factor = body[:-1], SUFFIXES[body[-1]]
    try:
        value = float(body) * factor
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise UsageError(f"{text!r} is no number above 0: write for example 125M, 2.5B or 1e9")
    return value


def _speed(question: Question, measured: float) -> tuple[float, str]:
    if not question.device:
        return measured, "as the sweep's largest run was measured" if measured else ""
    peak = listed_peak(question.device)
    if peak is None:
        raise BadInputError(f"no peak is listed for a device {question.device!r}: see train_jobs/planning/flops.py")
    if not (0 < question.mfu <= 1 and question.devices >= 1):
        raise UsageError("--mfu lies above 0 and up to 1, --devices is 1 or more")
    said = f"{question.devices} x {question.device} at an MFU of {question.mfu:g}, not measured"
    return peak * question.devices * question.mfu, said


def _size(law: Law, question: Question, speed: float, flops_a_weight: float) -> tuple[float, float]:
    budgets = [name for name in ("hours", "money") if getattr(question, name)]
    if not budgets:
        largest = max(law.points, key=lambda point: (point.parameters, point.tokens))
        if not (question.parameters or question.tokens):
            return 10.0 * largest.parameters, 10.0 * largest.tokens
        parameters = question.parameters or question.tokens / TOKENS_PER_PARAMETER
        return parameters, question.tokens or question.parameters * TOKENS_PER_PARAMETER
    if question.parameters and question.tokens:
        raise UsageError("give a size with its tokens, or a budget (--hours, --money), not both")
    if question.money and not question.price_per_hour:
        raise UsageError("--money needs --price-per-hour of all devices together")
    if not speed:
        raise BadInputError("no speed was measured: points from a file need --device for a budget in hours or money")
    hours = [question.hours] if question.hours else []
    hours += [question.money / question.price_per_hour] if question.money else []
    flops = min(hours) * 3600 * speed
    if question.parameters:
        return question.parameters, flops / (question.parameters * flops_a_weight)
    if question.tokens:
        return flops / (question.tokens * flops_a_weight), question.tokens
    return law.best_split(flops, lambda size: size * flops_a_weight)


def _serving(question: Question, parameters: float) -> dict[str, Any]:
    needed = ("requests_per_s", "slo_s", "serving_tokens_per_s")
    if missing := [f"--{name.replace('_', '-')}" for name in needed if not getattr(question, name)]:
        raise UsageError(f"replicas for an objective need {', '.join(missing)} too")
    # Writing tokens reads every weight once a token, so speed falls as the model grows.
    slower = parameters / question.serving_parameters if question.serving_parameters else 1.0
    tokens_per_s = question.serving_tokens_per_s / slower
    service_s = question.answer_tokens / tokens_per_s
    return {
        "replicas": replicas_for(question.requests_per_s, service_s, question.slo_s), "seconds_per_answer": service_s,
        "tokens_per_s": tokens_per_s, "requests_per_s": question.requests_per_s, "slo_s": question.slo_s,
    }  # fmt: skip


def read_points(rows: Sequence[Any]) -> list[Point]:
    """Points of a JSON list: ``parameters``, ``tokens``, ``loss`` and, where known, ``seconds`` of each run.

    Raises:
        BadInputError: a row lacks one, or it is no number.
    """
    points = []
    for number, row in enumerate(rows, 1):
        try:
            seconds, loss = float(row.get("seconds") or 0.0), float(row["loss"])
            if not (math.isfinite(loss) and math.isfinite(seconds) and seconds >= 0):
                raise ValueError("not a finite number")
            points.append(Point(int(row["parameters"]), int(row["tokens"]), loss, seconds))
        except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
            raise BadInputError(f"point {number} needs parameters, tokens and loss as numbers: {error!r}") from None
    return points
