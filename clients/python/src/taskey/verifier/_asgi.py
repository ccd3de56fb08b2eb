"""Authenticates the callers of an ASGI application."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Container, MutableMapping
from typing import Any

from taskey._errors import TaskeyError
from taskey.verifier._context import current
from taskey.verifier._status import as_http
from taskey.verifier._verifier import Verifier

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]


class AsgiMiddleware:
    """Refuses requests without a valid access token. The application gets the claims from `caller`.

    WebSockets are closed before they are accepted, which servers report as 403.
    """

    def __init__(self, app: Application, verifier: Verifier, public: Container[str] = ()) -> None:
        """Creates the middleware. The paths in `public` need no token."""
        self._app = app
        self._verifier = verifier
        self._public = public

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket") or scope["path"] in self._public:
            await self._app(scope, receive, send)
            return
        try:
            claims = self._verifier.authenticate(
                [value for name, value in scope["headers"] if name == b"authorization"]
            )
        except TaskeyError as error:
            await _refuse(error, scope, send)
            return
        reset = current.set(claims)
        try:
            await self._app(scope, receive, send)
        finally:
            current.reset(reset)


async def _refuse(error: TaskeyError, scope: Scope, send: Send) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008, "reason": error.reason})
        return
    code, body, headers = as_http(error, scope["headers"])
    await send({"type": "http.response.start", "status": code, "headers": headers})
    await send({"type": "http.response.body", "body": json.dumps(body).encode()})
