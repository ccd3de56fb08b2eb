"""Authenticates the callers of an ASGI application."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Container, MutableMapping
from typing import Any

from taskey._errors import TaskeyError
from taskey.verifier._context import current
from taskey.verifier._status import as_http
from taskey.verifier._verifier import Verifier, bearer_token

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]


class AsgiMiddleware:
    """Refuses requests without a valid access token. The application gets the claims from `caller`.

    WebSockets are closed before they are accepted, which servers report as 403.
    """

    def __init__(
        self, app: Application, verifier: Verifier, public: Container[str] = (), required_scope: str = ""
    ) -> None:
        """Creates the middleware. The paths in `public` need no token.

        Tokens must have the required scope, such as `tasks.read`. Without one, tokens with scopes are refused.
        """
        self._app = app
        self._verifier = verifier
        self._public = public
        self._required_scope = required_scope

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket") or scope["path"] in self._public:
            await self._app(scope, receive, send)
            return
        headers = scope["headers"]
        client = self._verifier.client_address((scope.get("client") or (None,))[0], headers)
        try:
            claims = await self._verifier.authenticate_async(bearer_token(headers), client)
            claims.require_scope(self._required_scope)
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
