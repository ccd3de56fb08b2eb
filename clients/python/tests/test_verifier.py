"""The verifier, with a real auth-service."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import jwt
import pytest
from conftest import Server
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from fake_server import FakeServer, Feed
from proxy import Proxy
from test_client import failure

import taskey
from taskey.auth.v1 import token_service_pb2 as pb
from taskey.verifier import Actor, Claims, KeySet, State, Verifier
from taskey.verifier import _revocations as revocations


def wait_until(condition: Callable[[], bool], timeout: float = 10) -> None:
    """Waits until a condition is met."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def new_verifier(server: Server, address: str = "", **arguments: Any) -> Verifier:
    """Creates a verifier with the key file of a server."""
    address = address or server.addresses["auth"]
    return Verifier(address, key_file=server.data / "keys.json", tls=None, **arguments)


@pytest.fixture(scope="module")
def verifier(server: Server) -> Iterator[Verifier]:
    """A verifier that is ready."""
    with new_verifier(server) as created:
        wait_until(lambda: created.state is State.FRESH)
        yield created


def test_logout_is_effective_within_a_second(server: Server, verifier: Verifier) -> None:
    with taskey.Client(server.address, server.sign_up(), tls=None) as client:
        for _ in range(20):
            token = client.access_token() or ""
            assert verifier.verify(token).roles == ()
            client.log_out()
            started = time.monotonic()
            while True:
                try:
                    verifier.verify(token)
                except taskey.TaskeyError as error:
                    assert error.reason == "TOKEN_REVOKED"
                    break
                assert time.monotonic() - started < 1


def test_logout_waits_for_the_verifier(server: Server, verifier: Verifier) -> None:
    with taskey.Client(server.address, server.sign_up(), tls=None) as client:
        token = client.access_token() or ""
        # The other one is task-service.
        assert client.log_out(wait_for_verifiers=True) == 2
        assert failure(lambda: verifier.verify(token)).reason == "TOKEN_REVOKED"


def test_verifier_is_cold_then_fresh_then_stale_then_expired(server: Server) -> None:
    with taskey.Client(server.address, server.sign_up(), tls=None) as client:
        token = client.access_token() or ""
    with Proxy(server.addresses["auth"]) as proxy:
        proxy.is_refusing = True
        with new_verifier(server, proxy.address, max_staleness=5) as verifier:
            error = failure(lambda: verifier.verify(token))
            assert (verifier.state, error.reason) == (State.COLD, "VERIFIER_NOT_READY")
            assert (error.code, error.retry_after) == (grpc.StatusCode.UNAVAILABLE, 1)
            proxy.is_refusing = False
            wait_until(lambda: verifier.state is State.FRESH)
            proxy.is_refusing = True
            proxy.cut()
            wait_until(lambda: verifier.state is State.STALE, 5)
            verifier.verify(token)
            wait_until(lambda: verifier.state is State.EXPIRED, 5)
            assert failure(lambda: verifier.verify(token)).reason == "VERIFIER_NOT_READY"
            proxy.is_refusing = False
            wait_until(lambda: verifier.state is State.FRESH, 2)
            verifier.verify(token)


def test_verifier_notices_a_half_open_connection(server: Server) -> None:
    with Proxy(server.addresses["auth"]) as proxy, new_verifier(server, proxy.address) as verifier:
        wait_until(lambda: verifier.state is State.FRESH)
        proxy.abandon()
        wait_until(lambda: verifier.state is State.STALE, 5)
        wait_until(lambda: verifier.state is State.FRESH, 5)


def test_verifier_fails_over_to_another_replica(server: Server) -> None:
    with Verifier(["127.0.0.1:1", server.addresses["auth"]], key_file=server.data / "keys.json", tls=None) as verifier:
        wait_until(lambda: verifier.state is State.FRESH)


def message(**event: Any) -> pb.WatchRevocationsResponse:
    """Returns a scripted message of the feed."""
    return pb.WatchRevocationsResponse(watch_id="01890a5d-ac96-774b-bcce-b30200000099", epoch="a", **event)


SESSIONS = [f"01890a5d-ac96-774b-bcce-b3020000000{number}" for number in range(4)]
HEARTBEAT = message(heartbeat={})


def revoke(*session_ids: str, **snapshot: Any) -> list[pb.WatchRevocationsResponse]:
    """Returns a snapshot."""
    return [message(snapshot_chunk={"revoked_session_ids": session_ids}), message(snapshot_end=snapshot)]


class Keys:
    """A key file with shared secrets."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "keys.json"
        self.write("first")

    def write(self, *key_ids: str) -> None:
        """Replaces the keys."""
        keys = [{"kty": "oct", "kid": key_id, "k": f"{key_id:A<43}"} for key_id in key_ids]
        self.path.write_text(json.dumps({"keys": keys}))
        self.path.chmod(0o600)

    def sign(self, session_id: str, age: int = 0) -> str:
        """Signs a token with the first key."""
        key, now = KeySet.read(self.path).first, int(time.time()) - age
        assert isinstance(key.signing, bytes)
        claims: dict[str, Any] = {
            "iss": "taskey",
            "aud": "taskey",
            "sub": SESSIONS[0],
            "sid": session_id,
            "jti": SESSIONS[0],
        }
        claims |= {"iat": now, "exp": now + 300, "roles": []}
        return jwt.encode(claims, key.signing, "HS256", {"kid": key.id, "typ": "at+jwt"})


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    """A key file."""
    return Keys(tmp_path)


@pytest.fixture
def fake() -> Iterator[FakeServer]:
    """An auth-service with scripted answers."""
    with FakeServer() as server:
        server.answer("AcknowledgeRevocations", pb.AcknowledgeRevocationsResponse())
        yield server


def follow(fake: FakeServer, keys: Keys, **arguments: Any) -> Verifier:
    """Creates a verifier that follows the scripted feed, and waits until it is ready."""
    verifier = Verifier(fake.address, key_file=keys.path, tls=None, **arguments)
    wait_until(lambda: verifier.state is State.FRESH)
    return verifier


def test_revocations_remain_in_effect_when_the_server_has_lost_them(fake: FakeServer, keys: Keys) -> None:
    first, second = Feed(*revoke(SESSIONS[0]), heartbeat=HEARTBEAT), Feed(*revoke(), heartbeat=HEARTBEAT)
    fake.answer("WatchRevocations", first, second)
    with follow(fake, keys) as verifier:
        for update in (SESSIONS[1], SESSIONS[2]):
            first.messages.put(message(update={"revoked_session_ids": [update]}, sequence=7))
        wait_until(lambda: 7 in [request.sequence for request in fake.requests["AcknowledgeRevocations"]])
        first.ended.set()
        wait_until(lambda: len(fake.requests["WatchRevocations"]) == 2)
        for session in SESSIONS[:3]:
            assert failure(lambda session=session: verifier.verify(keys.sign(session))).reason == "TOKEN_REVOKED"  # type: ignore[misc]
        assert verifier.verify(keys.sign(SESSIONS[3])).sid == SESSIONS[3]


def test_a_snapshot_is_no_heartbeat_and_takes_effect_when_it_is_complete(fake: FakeServer, keys: Keys) -> None:
    feed = Feed(*revoke(), heartbeat=message(keys={}))
    fake.answer("WatchRevocations", feed)
    with Verifier(fake.address, key_file=keys.path, tls=None) as verifier:
        wait_until(lambda: bool(fake.requests["AcknowledgeRevocations"]))
        assert verifier.state is State.COLD
        feed.messages.put(HEARTBEAT)
        wait_until(lambda: verifier.state is State.FRESH)


def test_older_tokens_are_outdated_if_there_are_too_many_revocations(
    fake: FakeServer, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(revocations, "MAX_SESSIONS", 2)
    feed = Feed(*revoke(SESSIONS[0], issued_before={"seconds": int(time.time()) - 60}), heartbeat=HEARTBEAT)
    fake.answer("WatchRevocations", feed)
    with follow(fake, keys) as verifier:
        assert failure(lambda: verifier.verify(keys.sign(SESSIONS[3], 100))).reason == "TOKEN_EXPIRED"
        verifier.verify(keys.sign(SESSIONS[3]))
        feed.messages.put(message(update={"revoked_session_ids": SESSIONS[:3]}))
        wait_until(lambda: len(fake.requests["AcknowledgeRevocations"]) == 2)
        assert failure(lambda: verifier.verify(keys.sign(SESSIONS[3]))).reason == "TOKEN_EXPIRED"


def test_sessions_are_forgotten_when_no_token_of_them_can_be_valid(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    view = revocations.Revocations(30)
    view.add_snapshot([SESSIONS[0]], None)
    now += revocations.RETENTION - 1
    view.add()
    assert len(view._sessions) == 1
    now += revocations.PRUNE_INTERVAL + 1
    view.add()
    assert view._sessions == {}


@pytest.mark.parametrize(
    ("act", "is_revoked"),
    [
        (Actor(SESSIONS[3], sid=SESSIONS[0]), True),
        (Actor(SESSIONS[3], Actor(SESSIONS[3], Actor(SESSIONS[3], sid=SESSIONS[0])), SESSIONS[1]), True),
        (Actor(SESSIONS[3], Actor(SESSIONS[3]), SESSIONS[1]), False),
    ],
)
def test_token_is_revoked_with_the_session_of_any_service_that_acts_for_the_user(act: Actor, is_revoked: bool) -> None:
    view = revocations.Revocations(30)
    view.add_snapshot([SESSIONS[0]], None)
    view.add()
    now = int(time.time())
    claims = Claims(SESSIONS[3], SESSIONS[2], SESSIONS[3], now, now + 300, roles=(), act=act)
    if is_revoked:
        assert failure(lambda: view.check(claims)).reason == "TOKEN_REVOKED"
    else:
        view.check(claims)


def test_changed_key_file_takes_effect(fake: FakeServer, keys: Keys) -> None:
    fake.answer("WatchRevocations", Feed(*revoke(), heartbeat=HEARTBEAT))
    with follow(fake, keys) as verifier:
        old = keys.sign(SESSIONS[0])
        verifier.verify(old)
        keys.write("second", "first")
        new = keys.sign(SESSIONS[0])
        wait_until(lambda: not is_refused(verifier, new))
        verifier.verify(old)
        keys.path.write_text("{}")
        time.sleep(0.5)
        verifier.verify(new)


def is_refused(verifier: Verifier, token: str) -> bool:
    """Reports whether a token is refused."""
    try:
        verifier.verify(token)
    except taskey.TaskeyError:
        return True
    return False


def test_public_keys_come_with_the_feed(start: Callable[..., Server], tmp_path: Path) -> None:
    private, token_file = Ed25519PrivateKey.generate(), tmp_path / "token"
    encoded = [
        base64.urlsafe_b64encode(part).rstrip(b"=").decode()
        for part in (private.private_bytes_raw(), private.public_key().public_bytes_raw())
    ]
    jwk = {"kty": "OKP", "crv": "Ed25519", "kid": "pair", "d": encoded[0], "x": encoded[1]}
    key_file = tmp_path / "pair.json"
    key_file.touch(0o600)
    key_file.write_text(json.dumps({"keys": [jwk]}))
    server = start(f"--key-file={key_file}", f"--secret-file={tmp_path / 'refresh.secret'}")
    with Verifier(server.addresses["auth"], key_file=key_file, tls=None) as signing:
        token_file.write_text(dict(signing._authorize())["authorization"].removeprefix("Bearer "))
    with (
        Verifier(server.addresses["auth"], service_token_file=token_file, tls=None) as verifier,
        taskey.Client(server.address, server.sign_up(), tls=None) as client,
    ):
        wait_until(lambda: verifier.state is State.FRESH)
        verifier.verify(client.access_token() or "")
