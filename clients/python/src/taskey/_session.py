"""The session of a client: its tokens, and their renewal.

The coroutines in this module and in `_calls` contain no I/O of their own, so that both clients share them. The
asynchronous client awaits them. In the synchronous client, `Io` blocks instead of suspending, so each coroutine runs to
its end at the first step.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any, Protocol

import grpc

from taskey._errors import TaskeyError
from taskey.auth.v1 import auth_service_pb2 as auth

Metadata = tuple[tuple[str, str], ...]

DEFAULT_TIMEOUT = 10.0
"""Deadline of calls without another one, in seconds."""
REFRESH_AT = 0.8
"""At which part of its lifetime an access token is refreshed."""
REFRESH_TIMEOUT = 3.0
"""Deadline of an attempt to refresh, in seconds. It is short because the server accepts a repeated refresh for 60 s."""
MAX_ATTEMPTS = 3


@dataclass(frozen=True)
class Password:
    """Logs in with the password of an account. The session is refreshed for as long as the client is used."""

    email: str
    password: str = field(repr=False)
    session_label: str = ""


def bearer(token: str | None) -> Metadata:
    """Returns the metadata with a token."""
    return (("authorization", f"Bearer {token}"),) if token else ()


class Io(Protocol):
    """What differs between the synchronous and the asynchronous client."""

    async def sleep(self, seconds: float) -> None:
        """Waits."""

    async def call_auth(self, method: str, request: Any, timeout: float, metadata: Metadata = ()) -> Any:
        """Calls a method of `AuthService`."""

    def start(self, work: Coroutine[Any, Any, str]) -> Any:
        """Starts work in the background. Cancelling a caller does not cancel it."""

    async def wait(self, work: Any, timeout: float) -> str:
        """Waits for the result of work that was started, or raises `TimeoutError`."""


class Session:
    """The tokens of a client. A session is renewed once, however many calls wait for it."""

    def __init__(self, io: Io, credentials: Password | str | None) -> None:
        self._io = io
        self._password = credentials if isinstance(credentials, Password) else None
        self._bearer = credentials if isinstance(credentials, str) else None
        # Protects the fields below; never held while waiting.
        self._lock = threading.Lock()
        self._pair: auth.TokenPair | None = None
        self._refresh_at = self._expires_at = self._session_expires_at = 0.0
        self._renewal: Any = None
        self._ended: TaskeyError | None = None

    @property
    def is_renewable(self) -> bool:
        """Whether an expired access token can be replaced."""
        return self._password is not None

    async def access_token(self, timeout: float = DEFAULT_TIMEOUT, rejected: str | None = None) -> str | None:
        """Returns an access token other than the `rejected` one.

        While a token is still valid, calls do not wait for its renewal.
        """
        if not self.is_renewable:
            return self._bearer
        with self._lock:
            if self._ended:
                raise self._ended.with_traceback(None)
            now = time.monotonic()
            token = self._pair.access_token if self._pair and now < self._expires_at else None
            token = None if token == rejected else token
            if token is None or now >= self._refresh_at:
                self._renewal = self._renewal or self._io.start(self._renew())
            renewal = self._renewal
        return token or await self._wait(renewal, timeout)

    async def _wait(self, renewal: Any, timeout: float) -> str:
        try:
            return await self._io.wait(renewal, max(timeout, 0))
        except TimeoutError:
            code = grpc.StatusCode.DEADLINE_EXCEEDED
            raise TaskeyError(code, "the login or the refresh takes too long") from None

    async def log_out(self, wait_for_verifiers: bool) -> int:
        """Revokes the session and forgets its tokens. Returns the number of verifiers that have confirmed it."""
        with self._lock:
            pair, renewal = self._pair, self._renewal
        if renewal:
            await self._wait(renewal, DEFAULT_TIMEOUT)
            pair = self._pair
        if pair is None and self._bearer is None:
            return 0
        request = auth.LogoutRequest(wait_for_verifiers=wait_for_verifiers)
        request.refresh_token = pair.refresh_token if pair else ""
        response = await self._io.call_auth("Logout", request, DEFAULT_TIMEOUT, bearer(self._bearer))
        with self._lock:
            self._pair = self._bearer = self._ended = None
        return int(response.acknowledged_verifiers)

    async def _renew(self) -> str:
        try:
            pair = await self._refresh(self._pair) if self._pair else await self._log_in()
        except TaskeyError as error:
            with self._lock:
                self._renewal = None
                self._refresh_at = time.monotonic() + 1
                # The caller has to decide what to do about a revoked session or a wrong password. A superseded refresh
                # token is not sent again either, because that would revoke the session of the program that uses it.
                if error.code in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.ABORTED):
                    self._ended = error
            raise
        now = time.monotonic()
        lifetime, session_lifetime = _lifetimes(pair)
        with self._lock:
            self._renewal, self._pair = None, pair
            self._refresh_at, self._expires_at = now + REFRESH_AT * lifetime, now + lifetime
            self._session_expires_at = now + session_lifetime
        return pair.access_token

    async def _log_in(self) -> auth.TokenPair:
        assert self._password
        password = self._password
        request = auth.LoginRequest(
            email=password.email, password=password.password, session_label=password.session_label
        )
        pair: auth.TokenPair = await self._io.call_auth("Login", request, DEFAULT_TIMEOUT)
        return pair

    async def _refresh(self, pair: auth.TokenPair) -> auth.TokenPair:
        """Refreshes the session. If the response was lost, the same refresh token is sent again."""
        for attempt in range(1, MAX_ATTEMPTS + 1):
            try:
                request = auth.RefreshRequest(refresh_token=pair.refresh_token)
                newer: auth.TokenPair = await self._io.call_auth("Refresh", request, REFRESH_TIMEOUT)
                return newer
            except TaskeyError as error:
                if error.reason == "REFRESH_TOKEN_INVALID" and time.monotonic() >= self._session_expires_at:
                    break
                # An error without a reason does not come from the server.
                is_lost = not error.reason or error.code is grpc.StatusCode.UNAVAILABLE
                if not is_lost or attempt == MAX_ATTEMPTS:
                    raise
            await self._io.sleep(random.uniform(0, 0.2 * 2**attempt))
        return await self._log_in()


def _lifetimes(pair: auth.TokenPair) -> tuple[float, float]:
    """Returns for how many seconds the access token and the session are still valid."""
    if pair.HasField("access_lifetime"):
        return pair.access_lifetime.ToTimedelta().total_seconds(), pair.refresh_lifetime.ToTimedelta().total_seconds()
    # Older servers send only when they expire, by the clock of the server.
    now = time.time()
    return pair.access_expire_time.ToNanoseconds() / 1e9 - now, pair.refresh_expire_time.ToNanoseconds() / 1e9 - now
