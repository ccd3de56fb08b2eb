"""The verifier of access tokens."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import grpc

from taskey._calls import TLS
from taskey._errors import TaskeyError
from taskey._session import Metadata, bearer
from taskey.verifier._feed import Feed
from taskey.verifier._keys import KeySource
from taskey.verifier._revocations import Revocations, State, not_ready
from taskey.verifier._token import Claims, UnknownKeyError, expired_token, invalid_token, sign_token, verify_token


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
        self._feed = Feed(peers, tls, self._authorize, self._keys, self._revocations)
        self._feed.start()

    @property
    def state(self) -> State:
        """How fresh the revocations are now."""
        return self._revocations.state

    def verify(self, token: str) -> Claims:
        """Verifies a token and returns its claims.

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

    def authenticate(self, headers: Sequence[str | bytes]) -> Claims:
        """Verifies the token in the values of the header `authorization` (RFC 6750, section 2.1).

        Raises:
            TaskeyError: As `verify`, or UNAUTHENTICATED / TOKEN_MISSING.
        """
        if not headers:
            message = "an access token is required: authorization: Bearer <token>"
            raise TaskeyError(grpc.StatusCode.UNAUTHENTICATED, message, "TOKEN_MISSING")
        value = headers[0].decode("latin-1") if isinstance(headers[0], bytes) else headers[0]
        scheme, _, token = value.partition(" ")
        if len(headers) > 1 or scheme.lower() != "bearer":
            raise invalid_token()
        return self.verify(token)

    def close(self) -> None:
        """Ends the connection to auth-service. From then on, tokens are accepted only until the maximum staleness."""
        self._feed.close()

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
