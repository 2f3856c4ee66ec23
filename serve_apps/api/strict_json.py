"""Reading a request body as strict JSON: what a lenient parser lets through is what fuzzers and attackers send.

Refused with a 400 that says why: anything but UTF-8, NaN and Infinity (also as 1e999), integers beyond 64 bits, nesting
deeper than 200, keys given twice, NUL characters and lone surrogates anywhere in the document.
"""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn

import pydantic_core

from serve_apps.errors import bad_request

_INT_DIGITS = 19


class _RefusedError(ValueError):
    """Raised inside the parser's hooks; carries the sentence for the client."""


def read_json(body: bytes) -> dict[str, Any]:
    """Parse a request body into a JSON object.

    Raises:
        ApiError: 400, with what is wrong with the body.
    """
    if not body.strip():
        raise bad_request("the request body is empty: send a JSON object")
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise bad_request(f"the request body is not UTF-8 (byte {error.start})") from None
    try:
        # The Rust parser first: it stops at a nesting of 200, where the one below would exhaust the C stack.
        pydantic_core.from_json(body, allow_inf_nan=False)
        value = json.loads(
            text, object_pairs_hook=_object, parse_int=_int, parse_float=_float, parse_constant=_constant
        )
    except _RefusedError as error:
        raise bad_request(f"the request body is refused: {error}") from None
    except ValueError as error:
        raise bad_request(f"the request body is not valid JSON: {_cut(str(error))}") from None
    if not isinstance(value, dict):
        raise bad_request("the request body must be a JSON object")
    _check_text(value, "")
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _RefusedError("an object has the same key twice")
    return found


def _int(digits: str) -> int:
    if len(digits.lstrip("-")) > _INT_DIGITS:
        raise _RefusedError("an integer has too many digits")
    return int(digits)


def _float(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise _RefusedError("a number is too large")
    return value


def _constant(name: str) -> NoReturn:
    raise _RefusedError(f"{name} is not a JSON number")


def _check_text(value: Any, where: str) -> None:
    """Refuse NULs and lone surrogates, naming the place. Depth is bounded by the first parser."""
    if isinstance(value, str):
        if "\x00" in value:
            raise bad_request("NUL characters are not accepted", param=where or None)
        try:
            value.encode("utf-8")
        except UnicodeEncodeError:
            raise bad_request("a string holds half a surrogate pair", param=where or None) from None
    elif isinstance(value, dict):
        for key, item in value.items():
            _check_text(key, where)
            _check_text(item, f"{where}.{_cut(key)}" if where else _cut(key))
    elif isinstance(value, list):
        for place, item in enumerate(value):
            _check_text(item, f"{where}[{place}]")


def _cut(text: str, limit: int = 120) -> str:
    return text if len(text) <= limit else f"{text[:limit]}..."
