"""The verifier of access tokens."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Self

import grpc

from taskey._calls import TLS
from taskey._errors import TaskeyError
from taskey._session import Metadata, bearer
from taskey.verifier._feed import Feed
from taskey.verifier._keys import KeySource
from taskey.verifier._personal import MAX_EXCHANGES, PREFIX, PersonalTokens, RemoteExchange
from taskey.verifier._revocations import Revocations, State, not_ready
from taskey.verifier._status import Headers
from taskey.verifier._token import Claims, UnknownKeyError, expired_token, invalid_token, sign_token, verify_token

ClientAddress = Callable[[str | None, Headers], str | None]


def bearer_token(headers: Headers) -> str:
    """Returns the token in the header `authorization` (RFC 6750, section 2.1).

    Raises:
        TaskeyError: UNAUTHENTICATED / TOKEN_MISSING or TOKEN_INVALID.
    """
    values = [value for name, value in headers if name in ("authorization", b"authorization")]
    if not values:
        message = "an access token is required: authorization: Bearer <token>"
        raise TaskeyError(grpc.StatusCode.UNAUTHENTICATED, message, "TOKEN_MISSING")
    value = values[0].decode("latin-1") if isinstance(values[0], bytes) else values[0]
    scheme, _, token = value.partition(" ")
    if len(values) > 1 or scheme.lower() != "bearer":
        raise invalid_token()
    return token


class Verifier:
    """Verifies access tokens without I/O, and follows the revoked sessions in a thread.

    All threads and event loops can use it at the same time. It follows auth-service until it is closed.
    """

    def __init__(
        self,
        addresses: str | Sequence[str],
        *,
        key_file: str | Path | None = None,
        service_token_file: str | Path | None = None,
        tls: TLS | None = TLS(),
        issuer: str = "taskey",
        audience: str = "taskey",
        max_staleness: float = 30.0,
        client_address: ClientAddress = lambda peer, _: peer,
    ) -> None:
        """Creates a verifier and starts to follow auth-service.

        Args:
            addresses: The hosts and ports of the replicas of auth-service.
            key_file: A JWK Set with the shared secret. Without it, the public keys that auth-service sends are used.
            service_token_file: A service token with the scope `tokens.verify`. Without it, the verifier signs tokens
                with the first key of `key_file`. Without both, its certificate authenticates it.
            tls: The certificates; `None` for plaintext.
            issuer: The issuer of access tokens.
            audience: The audience of access tokens.
            max_staleness: How many seconds tokens are accepted while no revocations are received; 3 to 900.
            client_address: Returns the address of the client of a call, given that of the peer, or `None`, and the
                headers: behind a proxy, what the proxy has written into a header. Personal access tokens can be limited
                to networks.

        Raises:
            OSError: A file cannot be read.
            ValueError: The key file is not usable.
        """
        if max_staleness > 900:
            raise ValueError("max_staleness must be at most 900 s")
        self._keys = KeySource(key_file)
        self._key_file, self._service_token_file = key_file, service_token_file
        self._issuer, self._audience = issuer, audience
        self._revocations = Revocations(max_staleness)
        self._authorize()
        peers = [addresses] if isinstance(addresses, str) else addresses
        self._client_address = client_address
        self._exchange = RemoteExchange(peers, tls, self._authorize)
        self._personal_tokens = PersonalTokens(self._exchange)
        # For asyncio, whose own threads must not wait for exchanges.
        self._executor = ThreadPoolExecutor(MAX_EXCHANGES, "taskey-exchange")
        self._feed = Feed(peers, tls, self._authorize, self._keys, self._revocations)
        self._feed.start()

    @property
    def state(self) -> State:
        """How fresh the revocations are now."""
        return self._revocations.state

    def verify(self, token: str) -> Claims:
        """Verifies an access token without I/O, and returns its claims.

        Raises:
            TaskeyError: UNAUTHENTICATED with the reason, or UNAVAILABLE / VERIFIER_NOT_READY while keys or revocations
                are not received, because clients discard their tokens after UNAUTHENTICATED.
        """
        state, keys = self.state, self._keys.current
        if keys is None or not state.accepts_tokens:
            raise not_ready()
        try:
            claims = verify_token(keys, self._issuer, self._audience, token)
        except UnknownKeyError:
            # New keys are received with the revocations, so they may be missing too.
            if state is State.FRESH:
                raise
            raise not_ready() from None
        self._revocations.check(claims)
        return claims

    def check_still_valid(self, claims: Claims) -> None:
        """Checks that a verified token has not expired and was not revoked since. Streams end with their token.

        Raises:
            TaskeyError: As `verify`.
        """
        if claims.has_expired(time.time()):
            raise expired_token()
        self._revocations.check(claims)

    def authenticate(self, token: str, client: str | None = None) -> Claims:
        """Verifies an access token, or a personal access token that a client at an address has sent.

        The first call with a personal access token waits for its exchange at auth-service. If the address is unknown,
        tokens that are limited to networks are refused.

        Raises:
            TaskeyError: As `verify`.
        """
        claims = self._remembered(token, client)
        return claims or self._claims_by_exchange(token, client)

    async def authenticate_async(self, token: str, client: str | None = None) -> Claims:
        """As `authenticate`, without blocking the event loop."""
        claims = self._remembered(token, client)
        if claims is None:
            loop = asyncio.get_running_loop()
            claims = await loop.run_in_executor(self._executor, self._claims_by_exchange, token, client)
        return claims

    def _remembered(self, token: str, client: str | None) -> Claims | None:
        """Returns the claims of a token, or `None` if it has to be exchanged."""
        if not token.startswith(PREFIX):
            return self.verify(token)
        if not self.state.accepts_tokens:
            raise not_ready()
        return self._personal_tokens.remembered(token, client, self._is_current)

    def _claims_by_exchange(self, token: str, client: str | None) -> Claims:
        return self._checked(self._personal_tokens.exchange(token, client, self._is_current))

    def _is_current(self, claims: Claims) -> bool:
        try:
            self.check_still_valid(claims)
        except TaskeyError:
            return False
        return True

    def _checked(self, claims: Claims) -> Claims:
        self.check_still_valid(claims)
        return claims

    def client_address(self, peer: str | None, headers: Headers) -> str | None:
        """Returns the address of the client of a call, given that of the peer."""
        return self._client_address(peer, headers)

    def close(self) -> None:
        """Ends the connection to auth-service. From then on, tokens are accepted only until the maximum staleness."""
        self._feed.close()
        self._executor.shutdown(wait=False)
        self._exchange.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _authorize(self) -> Metadata:
        """Returns the metadata that authenticates this service. The file is read each time, so it can be replaced."""
        if self._service_token_file:
            return bearer(Path(self._service_token_file).read_text().strip())
        if self._key_file and self._keys.current:
            return bearer(sign_token(self._keys.current, self._issuer, self._audience, "verifier"))
        return ()
