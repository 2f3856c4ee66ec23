"""The files of the chat page, of `/ops` and of `/review`, read once: plain HTML, CSS and JavaScript without a build
step or another host.

The two libraries in ``vendor/`` are what `make vendor` fetched: a Markdown parser and an HTML sanitiser.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path

from starlette.responses import Response

_SCRIPT = "text/javascript; charset=utf-8"
SCRIPTS = (
    "page.js",
    "answer.js",
    "charts.js",
    "chat.js",
    "collections.js",
    "dom.js",
    "history.js",
    "markdown.js",
    "ops.js",
    "ops_feed.js",
    "ops_tables.js",
    "review.js",
    "review_item.js",
    "service.js",
    "sidebar.js",
    "signin.js",
)
VENDORED = ("vendor/marked.esm.js", "vendor/purify.es.mjs")
FILES = {
    "index.html": "text/html; charset=utf-8",
    "ops.html": "text/html; charset=utf-8",
    "review.html": "text/html; charset=utf-8",
    "signin.html": "text/html; charset=utf-8",
    "style.css": "text/css; charset=utf-8",
    "icon.svg": "image/svg+xml",
    **dict.fromkeys(SCRIPTS + VENDORED, _SCRIPT),
}
# Nothing but this origin's own files: what a document says can never load or run anything.
POLICY = (
    "default-src 'self'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types dompurify"
)
HEADERS = {"content-security-policy": POLICY, "cache-control": "no-cache"}


def page_reply(name: str) -> Response:
    """One of FILES as a reply."""
    return Response(_read(name), media_type=FILES[name], headers=HEADERS)


def sign_in_page(headers: Mapping[str, str]) -> Response:
    """Where a browser that is not signed in gets signed in, instead of the page it asked for."""
    return Response(_read("signin.html"), 401, media_type=FILES["signin.html"], headers={**HEADERS, **headers})


@cache
def _read(name: str) -> bytes:
    return (Path(__file__).parent / name).read_bytes()
