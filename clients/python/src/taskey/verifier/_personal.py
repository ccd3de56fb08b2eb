"""Personal access tokens: opaque tokens that a verifier exchanges for claims, and remembers for some minutes."""

from __future__ import annotations

import binascii
import hashlib
import ipaddress
import re
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import grpc

from taskey._calls import CHANNEL_OPTIONS, TLS
from taskey._errors import TaskeyError
from taskey._session import Metadata
from taskey.auth.v1 import token_service_pb2 as pb
from taskey.auth.v1.token_service_pb2_grpc import TokenServiceStub
from taskey.verifier._rate_limit import ExchangeLimit
from taskey.verifier._token import Claims, invalid_token, normalize_id, parse_scopes

PREFIX = "taskey_pat_"
"""The prefix of personal access tokens, which distinguishes them from access tokens."""
MAX_AGE = 300.0
"""How many seconds the claims of a token are remembered at most."""
REJECTED_MAX_AGE = 60.0
"""How many seconds an invalid token is remembered. No token with the same text can become valid."""
MAX_ACCEPTED, MAX_REJECTED = 16_384, 4096
"""Maximum numbers of remembered tokens, valid and invalid ones. They do not evict each other."""
MAX_EXCHANGES = 32
"""Maximum number of exchanges in progress. Further ones wait."""
EXCHANGE_TIMEOUT = 2.0
"""How many seconds an exchange may take."""

_FORMAT = re.compile(r"(taskey_pat_[0-9a-f]{32}_[A-Za-z0-9_-]{43})_([0-9a-f]{8})")

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Exchange = Callable[[str, str], pb.ExchangePersonalAccessTokenResponse | None]
"""Returns the claims of a token that a client at an address has sent, or `None` if the token is not valid."""


def unavailable() -> TaskeyError:
    """Returns the error of tokens that cannot be checked."""
    message = "personal access tokens cannot be verified at the moment"
    return TaskeyError(grpc.StatusCode.UNAVAILABLE, message, "VERIFIER_NOT_READY", retry_after=1.0)


def has_valid_format(token: str) -> bool:
    """Reports whether a token has the format and the checksum of a personal access token."""
    found = _FORMAT.fullmatch(token)
    return found is not None and found[2] == f"{binascii.crc32(found[1].encode()):08x}"


@dataclass(frozen=True)
class Exchanged:
    """The result of an exchange."""

    claims: Claims
    networks: tuple[Network, ...]
    """The networks from which the token can be used. If empty, it can be used from everywhere."""
    until: float
    """Until when the claims are remembered."""

    def permits(self, client: str | None) -> bool:
        """Reports whether the token can be used from an address, or from an unknown one."""
        if not self.networks:
            return True
        try:
            address = ipaddress.ip_address(client or "")
        except ValueError:
            return False
        # The IPv4 address of an IPv4-mapped one.
        address = getattr(address, "ipv4_mapped", None) or address
        return any(address in network for network in self.networks)


class PersonalTokens:
    """Verifies personal access tokens. Tokens are remembered by their hashes, so that none is kept in memory."""

    def __init__(self, exchange: Exchange, now: Callable[[], float] = time.monotonic) -> None:
        self._exchange = exchange
        self._now = now
        self._limit = ExchangeLimit(now)
        self._permits = threading.BoundedSemaphore(MAX_EXCHANGES)
        self._lock = threading.Lock()
        self._accepted: dict[bytes, Exchanged] = {}
        self._rejected: dict[bytes, float] = {}
        self._exchanging: dict[bytes, Future[Exchanged]] = {}

    def remembered(self, token: str, client: str | None, is_current: Callable[[Claims], bool]) -> Claims | None:
        """Returns the claims of a token without I/O, or `None` if it has to be exchanged.

        Raises:
            TaskeyError: TOKEN_INVALID.
        """
        if not has_valid_format(token):
            raise invalid_token()
        found = self._find(_hash(token), is_current)
        return _permitted(found, client) if found else None

    def exchange(self, token: str, client: str | None, is_current: Callable[[Claims], bool]) -> Claims:
        """Exchanges a token for its claims, and remembers them. Calls with the same token wait for one exchange.

        Raises:
            TaskeyError: TOKEN_INVALID, VERIFIER_NOT_READY, or RATE_LIMITED.
        """
        hash = _hash(token)
        with self._lock:
            exchanging = self._exchanging.get(hash)
            is_first = exchanging is None
            if exchanging is None:
                exchanging = self._exchanging[hash] = Future()
        if is_first:
            try:
                # Another exchange may have ended since the caller found nothing.
                found = self._find(hash, is_current)
                exchanging.set_result(found or self._renew(hash, token, client))
            except Exception as error:
                exchanging.set_exception(error)
            finally:
                with self._lock:
                    del self._exchanging[hash]
        return _permitted(exchanging.result(), client)

    def _find(self, hash: bytes, is_current: Callable[[Claims], bool]) -> Exchanged | None:
        with self._lock:
            found, rejected_until = self._accepted.get(hash), self._rejected.get(hash, 0.0)
        now = self._now()
        if found and now < found.until and is_current(found.claims):
            return found
        if now < rejected_until:
            raise invalid_token()
        return None

    def _renew(self, hash: bytes, token: str, client: str | None) -> Exchanged:
        self._limit.check(client)
        if not self._permits.acquire(timeout=EXCHANGE_TIMEOUT):
            raise unavailable()
        try:
            response = self._exchange(token, client or "")
        finally:
            self._permits.release()
        now = self._now()
        with self._lock:
            if response is None:
                self._accepted.pop(hash, None)
                _remember(self._rejected, hash, now + REJECTED_MAX_AGE, MAX_REJECTED)
                raise invalid_token()
            exchanged = _parse(response, now)
            _remember(self._accepted, hash, exchanged, MAX_ACCEPTED)
        return exchanged


class RemoteExchange:
    """Exchanges tokens at the replicas of auth-service, of which the last one that has answered is called first."""

    def __init__(self, addresses: Sequence[str], tls: TLS | None, authorize: Callable[[], Metadata]) -> None:
        credentials = tls.credentials() if tls else None
        self._channels = [
            grpc.secure_channel(address, credentials, CHANNEL_OPTIONS)
            if credentials
            else grpc.insecure_channel(address, CHANNEL_OPTIONS)
            for address in addresses
        ]
        self._stubs = [TokenServiceStub(channel) for channel in self._channels]
        self._authorize = authorize
        self._first = 0

    def __call__(self, token: str, client: str) -> pb.ExchangePersonalAccessTokenResponse | None:
        """Exchanges a token."""
        request = pb.ExchangePersonalAccessTokenRequest(token=token, client_address=client)
        first, count = self._first, len(self._stubs)
        for index in range(first, first + count):
            try:
                response = self._stubs[index % count].ExchangePersonalAccessToken(
                    request, timeout=EXCHANGE_TIMEOUT / count, metadata=self._authorize(), wait_for_ready=True
                )
            except grpc.RpcError as error:
                if isinstance(error, grpc.Call) and error.code() is grpc.StatusCode.NOT_FOUND:
                    return None
                continue
            self._first = index % count
            return response
        raise unavailable()

    def close(self) -> None:
        """Closes the connections."""
        for channel in self._channels:
            channel.close()


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


def _permitted(exchanged: Exchanged, client: str | None) -> Claims:
    if not exchanged.permits(client):
        raise invalid_token()
    return exchanged.claims


def _remember(entries: dict[bytes, Any], hash: bytes, entry: Any, maximum: int) -> None:
    """Adds an entry. If there are too many, the oldest one is removed."""
    entries.pop(hash, None)
    entries[hash] = entry
    if len(entries) > maximum:
        del entries[next(iter(entries))]


def _parse(response: pb.ExchangePersonalAccessTokenResponse, now: float) -> Exchanged:
    """Parses a response. Its times are those of another clock, so the claims are remembered for a duration."""
    issued_at = time.time()
    try:
        sub, sid, jti = (normalize_id(id) for id in (response.sub, response.sid, response.jti))
        networks = tuple(ipaddress.ip_network(network) for network in response.networks)
        scopes = parse_scopes(response.scope)
    except ValueError:
        raise unavailable() from None
    claims = Claims(
        sub,
        sid,
        jti,
        iat=int(issued_at),
        exp=response.token_expire_time.seconds,
        roles=tuple(response.roles),
        scopes=scopes,
        is_personal_access_token=True,
    )
    return Exchanged(claims, networks, now + min(response.expire_time.seconds - issued_at, MAX_AGE))
