"""The limit of exchanges of personal access tokens."""

from __future__ import annotations

import grpc
import pytest
from test_client import failure

from taskey.verifier._rate_limit import MAX_CLIENTS, ExchangeLimit, counted_as


class Clock:
    """A clock that a test sets."""

    now = 1000.0


def permitted(limit: ExchangeLimit, client: str | None) -> int:
    """Counts exchanges until one is refused, and returns the number of those that were permitted."""
    for count in range(1000):
        try:
            limit.check(client)
        except Exception:
            return count
    raise AssertionError("nothing is refused")


def test_the_exchanges_of_a_client_are_limited() -> None:
    clock = Clock()
    limit = ExchangeLimit(lambda: clock.now)
    assert permitted(limit, "192.0.2.1") == 100
    error = failure(lambda: limit.check("192.0.2.1"))
    assert (error.code, error.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "RATE_LIMITED")
    assert error.retry_after == pytest.approx(0.2)
    clock.now += 1
    assert permitted(limit, "192.0.2.1") == 5
    limit.check("192.0.2.2")
    limit.check(None)
    clock.now += 60
    assert permitted(limit, "192.0.2.1") == 100


@pytest.mark.parametrize(
    ("client", "expected"),
    [
        ("2001:db8::1", "2001:db8::"),
        ("2001:db8::ffff:0:1", "2001:db8::"),
        ("2001:db8:0:1::1", "2001:db8:0:1::"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("192.0.2.1", "192.0.2.1"),
        ("", ""),
        (None, ""),
    ],
)
def test_an_ipv6_network_is_one_client(client: str | None, expected: str) -> None:
    assert counted_as(client) == expected


def test_few_clients_are_counted() -> None:
    limit = ExchangeLimit(lambda: 0.0)
    for index in range(2 * MAX_CLIENTS):
        limit.check(f"10.0.{index // 256}.{index % 256}")
    assert len(limit._clients) == MAX_CLIENTS
