"""Personal access tokens."""

from __future__ import annotations

import binascii
import threading
import time
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from conftest import Server
from google.protobuf import timestamp_pb2
from test_client import failure
from test_verifier import new_verifier, wait_until

import taskey
from taskey.auth.v1 import personal_access_token_service_pb2 as pats
from taskey.auth.v1 import token_service_pb2 as pb
from taskey.task.v1 import task_service_pb2 as tasks
from taskey.verifier import Claims, State, Verifier
from taskey.verifier import _personal as personal
from taskey.verifier._personal import PersonalTokens


def new_token() -> str:
    """Returns a token with a valid checksum."""
    body = f"taskey_pat_{uuid.uuid4().hex}_{'a' * 43}"
    return f"{body}_{binascii.crc32(body.encode()):08x}"


def always(_: Claims) -> bool:
    return True


class Exchanges:
    """A server that exchanges every token, and a cache in front of it."""

    def __init__(self, *networks: str) -> None:
        self.count = 0
        self.clock = 1000.0
        self.error: Exception | None = None
        now = int(time.time())
        self.response: pb.ExchangePersonalAccessTokenResponse | None = pb.ExchangePersonalAccessTokenResponse(
            sub=str(uuid.uuid4()),
            sid=str(uuid.uuid4()),
            jti=str(uuid.uuid4()),
            scope="tasks.read tasks.write",
            networks=networks,
            expire_time=timestamp_pb2.Timestamp(seconds=now + 3600),
            token_expire_time=timestamp_pb2.Timestamp(seconds=now + 86_400),
        )
        self.tokens = PersonalTokens(self.exchange, lambda: self.clock)

    def exchange(self, token: str, client: str) -> pb.ExchangePersonalAccessTokenResponse | None:
        """Counts an exchange."""
        self.count += 1
        if self.error:
            raise self.error
        return self.response

    def verify(self, token: str, client: str | None = None, is_current: Any = always) -> Claims:
        """Verifies a token as the verifier does."""
        found = self.tokens.remembered(token, client, is_current)
        return found or self.tokens.exchange(token, client, is_current)


def test_a_token_is_exchanged_once_in_five_minutes() -> None:
    server, token = Exchanges(), new_token()
    for _ in range(10):
        found = server.verify(token)
        assert found.scopes == ("tasks.read", "tasks.write") and found.is_personal_access_token
    assert server.count == 1
    server.clock += 300
    server.verify(token)
    assert server.count == 2


def test_a_token_that_is_not_current_is_exchanged_again() -> None:
    server, token = Exchanges(), new_token()
    for _ in range(3):
        server.verify(token, is_current=lambda _: False)
    assert server.count == 3


def test_a_call_uses_an_exchange_that_has_ended_since_it_found_nothing() -> None:
    server, token = Exchanges(), new_token()
    server.verify(token)
    answers = iter([False, True])

    def is_current(_: Claims) -> bool:
        answer = next(answers)
        if not answer:
            server.verify(token, is_current=lambda _: False)
        return answer

    server.verify(token, is_current=is_current)
    assert server.count == 2


def test_concurrent_calls_share_an_exchange() -> None:
    server, token, release = Exchanges(), new_token(), threading.Event()
    exchange = server.exchange

    def wait(token: str, client: str) -> Any:
        release.wait(10)
        return exchange(token, client)

    server.tokens = PersonalTokens(wait)
    found: list[Claims] = []
    threads = [threading.Thread(target=lambda: found.append(server.verify(token))) for _ in range(20)]
    for thread in threads:
        thread.start()
    release.set()
    for thread in threads:
        thread.join(10)
    assert (len(found), server.count) == (20, 1)


def test_an_invalid_token_is_remembered_for_a_minute() -> None:
    server, token = Exchanges(), new_token()
    server.response = None
    for _ in range(5):
        assert failure(lambda: server.verify(token)).reason == "TOKEN_INVALID"
    assert server.count == 1
    server.clock += 60
    assert failure(lambda: server.verify(token)).reason == "TOKEN_INVALID"
    assert server.count == 2


def test_a_token_with_a_changed_character_is_not_exchanged() -> None:
    server, token = Exchanges(), new_token()
    changed = [
        f"{token[:index]}{'b' if token[index] == 'c' else 'c'}{token[index + 1 :]}" for index in range(len(token))
    ]
    for text in [*changed, "taskey_pat_", token + "0", token[:-1], token + "\n", " " + token]:
        assert failure(lambda text=text: server.verify(text)).reason == "TOKEN_INVALID"  # type: ignore[misc]
    assert server.count == 0


@pytest.mark.parametrize(
    ("client", "is_permitted"),
    [
        ("192.0.2.7", True),
        ("::ffff:192.0.2.7", True),
        ("2001:db8::1", True),
        ("192.0.3.1", False),
        ("127.0.0.1", False),
        ("", False),
        (None, False),
    ],
)
def test_a_token_is_limited_to_its_networks(client: str | None, is_permitted: bool) -> None:
    server, token = Exchanges("192.0.2.0/24", "2001:db8::/32"), new_token()
    if is_permitted:
        server.verify(token, client)
    else:
        assert failure(lambda: server.verify(token, client)).reason == "TOKEN_INVALID"


def test_an_exchange_that_fails_is_unavailable_and_not_remembered() -> None:
    server, token = Exchanges(), new_token()
    server.error = personal.unavailable()
    assert failure(lambda: server.verify(token)).reason == "VERIFIER_NOT_READY"
    server.error = None
    server.verify(token)


def test_the_number_of_remembered_tokens_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(personal, "MAX_ACCEPTED", 20)
    monkeypatch.setattr(personal, "MAX_REJECTED", 10)
    server = Exchanges()
    for _ in range(30):
        server.verify(new_token())
    server.response = None
    for _ in range(30):
        failure(lambda: server.verify(new_token()))
    assert len(server.tokens._accepted) == 20
    assert len(server.tokens._rejected) == 10


def test_unknown_tokens_of_a_client_cause_few_exchanges() -> None:
    server, known = Exchanges(), new_token()
    server.verify(known, "192.0.2.1")
    server.response = None
    reasons = [failure(lambda: server.verify(new_token(), "192.0.2.1")).reason for _ in range(200)]
    assert reasons == ["TOKEN_INVALID"] * 99 + ["RATE_LIMITED"] * 101
    assert server.count == 100
    # Neither its other tokens nor other clients are affected.
    server.verify(known, "192.0.2.1")
    assert failure(lambda: server.verify(new_token(), "192.0.2.2")).reason == "TOKEN_INVALID"


@pytest.fixture(scope="module")
def verifier(server: Server) -> Iterator[Verifier]:
    """A verifier that is ready."""
    with new_verifier(server) as created:
        wait_until(lambda: created.state is State.FRESH)
        yield created


def test_a_personal_access_token_ends_with_its_deletion(server: Server, verifier: Verifier) -> None:
    with taskey.Client(server.address, server.sign_up(), tls=None) as owner:
        request = pats.CreatePersonalAccessTokenRequest(label="script", scopes=["tasks.read"])
        token = owner.personal_access_tokens.CreatePersonalAccessToken(request)
        found = verifier.authenticate(token.secret)
        assert (found.jti, found.scopes) == (token.id, ("tasks.read",))
        with taskey.Client(server.address, token.secret, tls=None) as script:
            script.tasks.ListTasks(tasks.ListTasksRequest())
            error = failure(lambda: script.tasks.CreateTask(tasks.CreateTaskRequest()))
            assert (error.reason, error.metadata) == ("SCOPE_MISSING", {"required": "tasks.write"})
            owner.personal_access_tokens.DeletePersonalAccessToken(pats.DeletePersonalAccessTokenRequest(id=token.id))
            deleted = time.monotonic()
            while True:
                try:
                    verifier.authenticate(token.secret)
                except taskey.TaskeyError as error:
                    assert error.reason in ("TOKEN_INVALID", "TOKEN_REVOKED")
                    break
                assert time.monotonic() - deleted < 1
