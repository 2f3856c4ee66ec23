"""What a route is: everything the service knows of a path, in one place.

The table itself is ``openai_http.ROUTES``. From it come the application's routes with their 404 and 405 answers, the
labels of the metrics, which bodies are read, who may ask without a host name, and what is logged.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from starlette.datastructures import Headers
from starlette.responses import Response

from serve_apps.api.schema import Body
from serve_apps.gateway.request_log import RequestRecord

GET, POST = ("GET", "HEAD"), ("POST",)
ANY_KEY, PUBLIC = "", None  # scopes of routes: see ``Route``


@dataclass(frozen=True)
class Call:
    """One request as its handler gets it: the record (which says whom it comes from), the validated body (None where
    the route takes none), what stands in the path for the parameters of the route and behind the question mark, whether
    it came over TLS, and its headers."""

    record: RequestRecord
    body: Any = None
    path: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, str] = field(default_factory=dict)
    secure: bool = False
    headers: Headers = field(default_factory=lambda: Headers({}))


@dataclass(frozen=True)
class Route:
    """One path of the service.

    Attributes:
        path: with parameters in braces; ``{id:path}`` may hold slashes.
        methods: those it takes; others are answered 405.
        scope: what a key must have to use it; empty: any key will do; None: nobody needs one.
        handler: gets the service and the call.
        body: the model its JSON body is validated with, read up to ``serve.max_body_bytes``; None: no body is read.
        logged: each request gets a line in the log; else only those that failed.
        probe: answers without a host name, as health checks of load balancers ask.
        waits: it waits for its turn, and is refused where too many do.
        tells_more: nobody needs a key, and who has one is recognised all the same.
        page: people come to it in a browser, also from other sites; who is not signed in gets the page where one does.
    """

    path: str
    methods: tuple[str, ...]
    scope: str | None
    handler: Callable[[Any, Call], Awaitable[Response]]
    body: type[Body] | None = None
    logged: bool = True
    probe: bool = False
    page: bool = False
    tells_more: bool = False
    waits: bool = False

    @property
    def label(self) -> str:
        """Its name in metrics and log."""
        return self.path.replace(":path}", "}")

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        """Matches the paths that are this route's."""
        parts = re.split(r"\{\w+(:path)?\}", self.path)
        # re.split yields text, ":path" or None, text, ...
        made = [re.escape(part) if place % 2 == 0 else ".*" if part else "[^/]+" for place, part in enumerate(parts)]
        return re.compile("".join(map(str, made)))


class RouteTable:
    """Finds the route of a path."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self._routes = tuple(routes)

    def find(self, path: str) -> tuple[Route | None, str]:
        """The first route the path belongs to, whatever the method (None for a path that is nobody's), and the path as
        that route has it: a slash at the end that many clients put there is none of it."""
        bare = path[:-1] if path.endswith("/") and not path.endswith("//") and len(path) > 1 else path
        for tried in (bare, path):
            if (found := next((route for route in self._routes if route.pattern.fullmatch(tried)), None)) is not None:
                return found, tried
        return None, path
