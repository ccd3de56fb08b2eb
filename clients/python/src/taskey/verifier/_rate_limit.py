"""Limits the exchanges of personal access tokens of each client."""

from __future__ import annotations

import ipaddress
import threading
from collections.abc import Callable

import grpc

from taskey._errors import TaskeyError

BURST = 100
"""How many exchanges a client may cause at once. A valid token needs one every 5 minutes, so that only clients with
many invalid tokens reach the limit."""
INTERVAL = 0.2
"""After how many seconds a client may cause a further one."""
ROUNDING = 0.001
"""Errors of rounding, in seconds."""
MAX_CLIENTS = 4096
"""Maximum number of clients whose exchanges are counted."""


class ExchangeLimit:
    """The generic cell rate algorithm: an entry is the time at which a client has its whole burst again."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._lock = threading.Lock()
        self._clients: dict[str, float] = {}

    def check(self, client: str | None) -> None:
        """Counts an exchange.

        Raises:
            TaskeyError: RESOURCE_EXHAUSTED / RATE_LIMITED if there were too many.
        """
        with self._lock:
            key, now = counted_as(client), self._now()
            # The clients that were counted last are at the end.
            full = max(self._clients.pop(key, now), now)
            wait = full - now - (BURST - 1) * INTERVAL
            is_refused = wait > ROUNDING
            self._clients[key] = full if is_refused else full + INTERVAL
            if len(self._clients) > MAX_CLIENTS:
                del self._clients[next(iter(self._clients))]
        if is_refused:
            message = "too many unknown personal access tokens from this address"
            raise TaskeyError(grpc.StatusCode.RESOURCE_EXHAUSTED, message, "RATE_LIMITED", retry_after=wait)


def counted_as(client: str | None) -> str:
    """Returns the address under which a client is counted. An IPv6 client usually has a whole /64 network."""
    try:
        address = ipaddress.ip_address(client or "")
    except ValueError:
        return ""
    mapped = getattr(address, "ipv4_mapped", None) or address
    return str(mapped) if mapped.version == 4 else str(ipaddress.IPv6Address(int(mapped) >> 64 << 64))
