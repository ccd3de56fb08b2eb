"""The revoked sessions that a verifier keeps in memory, and how fresh they are."""

from __future__ import annotations

import enum
import logging
import threading
import time
from collections.abc import Iterable

import grpc

from taskey._errors import TaskeyError
from taskey.verifier._token import LEEWAY, MAX_LIFETIME, Claims, expired_token, normalize_id

HEARTBEAT_LIMIT = 3.0
"""After this many seconds without a heartbeat, revocations may have been missed."""
RETENTION = MAX_LIFETIME + LEEWAY + 60
"""How long a revoked session is kept, in seconds: until none of its access tokens can be valid."""
MAX_SESSIONS = 1_000_000
"""Maximum number of sessions in memory, at about 120 bytes each. Of more, the oldest are replaced by a time."""
PRUNE_INTERVAL = 60.0

logger = logging.getLogger("taskey.verifier")


class State(enum.Enum):
    """How fresh the revocations are."""

    COLD = "no revocations have been received yet; no token is accepted"
    FRESH = "the last heartbeat was received at most 3 s ago"
    STALE = "heartbeats are missing, but for less than the maximum staleness; tokens are accepted"
    EXPIRED = "heartbeats have been missing for longer than the maximum staleness; no token is accepted"

    @property
    def accepts_tokens(self) -> bool:
        """Whether tokens are accepted."""
        return self in (State.FRESH, State.STALE)


def not_ready() -> TaskeyError:
    """Returns the error of a verifier that receives no revocations. Clients keep their tokens after this error."""
    message = "revocations are not received at the moment, so no token is accepted"
    return TaskeyError(grpc.StatusCode.UNAVAILABLE, message, "VERIFIER_NOT_READY", retry_after=1.0)


class Revocations:
    """The revoked sessions."""

    def __init__(self, max_staleness: float) -> None:
        # Heartbeats may be this far apart.
        self._max_staleness = max(max_staleness, HEARTBEAT_LIMIT)
        self._lock = threading.Lock()
        # The ids as numbers, with the monotonic time at which they were received.
        self._sessions: dict[int, float] = {}
        self._issued_before = float("-inf")
        self._has_snapshot = False
        self._last_heartbeat: float | None = None
        self._pruned_at = time.monotonic()

    @property
    def state(self) -> State:
        """How fresh the revocations are now."""
        last = self._last_heartbeat
        if last is None:
            return State.COLD
        silence = time.monotonic() - last
        if silence <= HEARTBEAT_LIMIT:
            return State.FRESH
        return State.STALE if silence <= self._max_staleness else State.EXPIRED

    def check(self, claims: Claims) -> None:
        """Checks that neither the session of a token nor one of a service that acts for the user was revoked.

        Takes one lookup in memory for each.

        Raises:
            TaskeyError: TOKEN_REVOKED, TOKEN_EXPIRED if the token is too old to know, or VERIFIER_NOT_READY.
        """
        if not self.state.accepts_tokens:
            raise not_ready()
        numbers = [_as_number(session_id) for session_id in claims.session_ids()]
        with self._lock:
            is_revoked = any(number in self._sessions for number in numbers)
            is_outdated = claims.iat < self._issued_before
        if is_revoked:
            message = "the session of the access token has ended"
            raise TaskeyError(grpc.StatusCode.UNAUTHENTICATED, message, "TOKEN_REVOKED")
        if is_outdated:
            raise expired_token()

    def add_snapshot(self, session_ids: Iterable[str], issued_before: float | None) -> None:
        """Adds the sessions of a snapshot.

        Other sessions remain, because the database of the peer may have lost them. A snapshot is not a heartbeat,
        because a peer that has lost the connection to its database may send an old one.
        """
        numbers = _as_numbers(session_ids)
        with self._lock:
            now = self._insert(numbers)
            if issued_before is not None:
                self._issued_before = max(self._issued_before, issued_before)
            self._has_snapshot = True
            self._collapse(now)

    def add(self, session_ids: Iterable[str] = ()) -> None:
        """Adds revoked sessions, if any. Each call is also a heartbeat. Heartbeats count only after a snapshot."""
        numbers = _as_numbers(session_ids)
        with self._lock:
            now = self._insert(numbers)
            if self._has_snapshot:
                self._last_heartbeat = now
            if now - self._pruned_at > PRUNE_INTERVAL:
                self._sessions = {id: at for id, at in self._sessions.items() if now - at < RETENTION}
                self._pruned_at = now
            self._collapse(now)

    def _insert(self, numbers: list[int]) -> float:
        now = time.monotonic()
        self._sessions.update(dict.fromkeys(numbers, now))
        return now

    def _collapse(self, now: float) -> None:
        """Replaces the older half of too many sessions by a time before which all their tokens were issued."""
        if len(self._sessions) <= MAX_SESSIONS:
            return
        times = sorted(self._sessions.values())
        last_removed = times[len(times) // 2]
        self._sessions = {id: at for id, at in self._sessions.items() if at > last_removed}
        self._issued_before = max(self._issued_before, time.time() - (now - last_removed) + LEEWAY)
        logger.warning("too many revoked sessions; older tokens are treated as expired")


def _as_numbers(session_ids: Iterable[str]) -> list[int]:
    """Parses the ids before the lock is taken, because this takes seconds for a million of them."""
    return [_as_number(normalize_id(session_id)) for session_id in session_ids]


def _as_number(session_id: str) -> int:
    return int(session_id.replace("-", ""), 16)
