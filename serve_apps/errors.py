"""Errors of the request path, and the one table that turns any error into OpenAI's shape.

The body is always ``{"error": {"message", "type", "param", "code"}}``. Statuses, types and codes are those the official
SDK understands: it retries 408, 409, 429 and 5xx by itself, so an error that a retry cannot cure says
``x-should-retry: false``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cluster.core.errors import BadInputError, PlinthError, PolicyRefusedError
from cluster.core.plain_text import printable

RETRY_AFTER_S = 1
LISTED = 20  # collections that an error names


NO_COLLECTION = "collection_not_found"
TOO_LONG = "context_length_exceeded"


class ApiError(PlinthError):
    """An error a client gets to see.

    Extras: ``status`` (HTTP), ``kind`` (OpenAI's ``type``), ``code``, ``param``, ``headers``.
    """

    @property
    def status(self) -> int:
        """The HTTP status of the reply; 400 where the error does not say."""
        return int(self.extras.get("status", 400))

    @property
    def headers(self) -> dict[str, str]:
        """HTTP headers the reply gets beside the usual ones."""
        return dict(self.extras.get("headers") or {})

    def body(self) -> dict[str, Any]:
        """The JSON body in OpenAI's shape. What of it a client wrote cannot steer the terminal that shows it."""
        param = self.extras.get("param")
        return {
            "error": {
                "message": printable(self.message, keep=""),
                "type": self.extras.get("kind", "invalid_request_error"),
                "param": None if param is None else printable(param, keep=""),
                "code": self.extras.get("code"),
            }
        }


class UnavailableError(PlinthError):
    """A collaborator (guard, retriever, tier) is down, overloaded or has not answered in time. Safe to retry."""


class AbstainedError(UnavailableError):
    """The tier that ``auto`` chose does not know, though the passages support an answer: another one is asked."""


class DoubtedError(UnavailableError):
    """The answer of the tier that ``auto`` chose is not borne out, and a larger tier is asked. Extras: ``why``, ``to``,
    ``tokens`` that it cost."""


class SwitchedOffError(UnavailableError):
    """The tier is external, and somebody switched it off."""


class DeadlineError(PlinthError):
    """The request took longer than ``serve.request_timeout_s``."""


class ClientGoneError(Exception):
    """The client closed the connection; its work was cancelled and nobody reads a reply."""


def bad_request(message: str, param: str | None = None, code: str | None = None) -> ApiError:
    """400: the request itself is wrong; ``param`` names the field."""
    return ApiError(message, status=400, param=param, code=code)


def model_not_found(model: str, known: tuple[str, ...]) -> ApiError:
    """404 for a model name nobody serves here."""
    message = f"the model {shown(model)} does not exist here; there are {', '.join(known) or 'none for this key'}"
    return ApiError(message, status=404, param="model", code="model_not_found")


def collection_not_found(name: str, known: Sequence[str], param: str | None = None) -> ApiError:
    """404 for a collection that is not there; the message lists some that are."""
    listed = ", ".join(known[:LISTED]) + (f" and {len(known) - LISTED} more" if len(known) > LISTED else "")
    message = f"the collection {shown(name)} does not exist here; there are {listed or 'none yet'}"
    return ApiError(message, status=404, param=param, code=NO_COLLECTION)


def context_too_long(chars: int, limit: int, param: str) -> ApiError:
    """400 for a text above ``serve.max_prompt_chars``."""
    message = f"{param}: a text of {chars} characters; the longest accepted has {limit}: shorten it"
    return ApiError(message, status=400, param=param, code=TOO_LONG)


def too_large(limit: int) -> ApiError:
    """413 for a body above ``serve.max_body_bytes``."""
    message = f"the request body is larger than {limit} bytes"
    return ApiError(message, status=413, code="request_too_large", headers={"connection": "close"})


def to_api_error(error: BaseException) -> ApiError:
    """What the client is told about ``error``. Internals of a bug stay in the log."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, DeadlineError | TimeoutError):
        message = str(error) or "the request took too long"
        return ApiError(message, status=504, kind="timeout", code="timeout", headers={"x-should-retry": "false"})
    if isinstance(error, UnavailableError | ConnectionError):
        message = error.message if isinstance(error, PlinthError) else "a part of the service is not reachable"
        return ApiError(
            f"{message}; try again in a moment",
            status=503,
            kind="service_unavailable",
            code="server_is_overloaded",
            headers={"retry-after": str(error.extras.get("retry_after_s", RETRY_AFTER_S))}
            if isinstance(error, PlinthError)
            else {"retry-after": str(RETRY_AFTER_S)},
        )
    if isinstance(error, BadInputError):
        return ApiError(error.message, status=400, param=error.extras.get("param"), code=error.extras.get("code"))
    if isinstance(error, PolicyRefusedError):
        code = error.extras.get("code", "content_policy_violation")
        return ApiError(error.message, status=400, param=error.extras.get("param"), code=code)
    message = "the service failed to handle this request; the log has the details under the id in x-request-id"
    return ApiError(message, status=500, kind="server_error", code="internal_error")


def shown(value: str, limit: int = 80) -> str:
    """A client's own string, safe to put into a message: quoted, escaped, cut."""
    return repr(value if len(value) <= limit else f"{value[:limit]}...").encode("ascii", "backslashreplace").decode()
