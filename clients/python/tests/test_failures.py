"""What both clients do when calls fail, answers are lost, and servers restart."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from clients import AnyClient
from conftest import Server
from fake_server import FakeServer, RefusalError
from proxy import Proxy
from test_client import UUID, failure

import taskey
from taskey.auth.v1.account_service_pb2 import GetMeRequest, RevokeOtherSessionsRequest
from taskey.auth.v1.auth_service_pb2 import LogoutResponse, TokenPair
from taskey.auth.v1.user_pb2 import User
from taskey.task.v1 import task_service_pb2 as tasks
from taskey.task.v1.task_list_service_pb2 import ListTaskListsRequest
from taskey.task.v1.task_pb2 import Task

PASSWORD = taskey.Password("ann@example.com", "correct horse battery staple")
EXPIRED = RefusalError(grpc.StatusCode.UNAUTHENTICATED, "TOKEN_EXPIRED")
UNAVAILABLE = RefusalError(grpc.StatusCode.UNAVAILABLE, "STORE_UNAVAILABLE", retry_after=0.01)
GET = ("tasks", "GetTask", tasks.GetTaskRequest(id=UUID))
CREATE = ("tasks", "CreateTask", tasks.CreateTaskRequest(task=Task(title="Once")))


def pair(
    number: int, lifetime: float = 300, session: float = 600, *, clock_error: float = 0, is_older: bool = False
) -> Callable[[], TokenPair]:
    """Returns a scripted answer to a login or a refresh. Its lifetimes begin when it is sent.

    The clock of the server differs by `clock_error` seconds. Older servers send no lifetimes.
    """

    def create() -> TokenPair:
        tokens, now = TokenPair(access_token=f"access-{number}", refresh_token=f"refresh-{number}"), time.time()
        tokens.access_expire_time.FromNanoseconds(int((now + clock_error + lifetime) * 1e9))
        tokens.refresh_expire_time.FromNanoseconds(int((now + clock_error + session) * 1e9))
        if not is_older:
            tokens.access_lifetime.FromNanoseconds(int(lifetime * 1e9))
            tokens.refresh_lifetime.FromNanoseconds(int(session * 1e9))
        return tokens

    return create


def test_concurrent_calls_share_one_refresh(new_client: type[AnyClient]) -> None:
    with FakeServer() as fake, new_client(fake.address, PASSWORD) as client:
        fake.answer("Login", pair(1, lifetime=0.5))
        fake.answer("Refresh", pair(2))
        fake.answer("GetMe", User(email="ann@example.com"))
        client.access_token()
        time.sleep(0.6)
        with ThreadPoolExecutor(50) as pool:
            calls = [pool.submit(client.call, "account", "GetMe", GetMeRequest()) for _ in range(50)]
            assert all(call.result().email for call in calls)
        assert len(fake.requests["Refresh"]) == 1
        assert set(fake.tokens["GetMe"]) == {"Bearer access-2"}


def test_concurrent_calls_that_are_refused_share_one_refresh(new_client: type[AnyClient]) -> None:
    with FakeServer() as fake, new_client(fake.address, PASSWORD) as client:
        fake.answer("Login", pair(1))
        fake.answer("Refresh", pair(2))
        fake.answer("GetTask", *[EXPIRED] * 20, Task(id=UUID))
        client.access_token()
        barrier = threading.Barrier(20)

        def call() -> Task:
            barrier.wait()
            task: Task = client.call(*GET)
            return task

        with ThreadPoolExecutor(20) as pool:
            outcomes = [pool.submit(call) for _ in range(20)]
            assert all(isinstance(outcome.exception(), taskey.TaskeyError | None) for outcome in outcomes)
        assert len(fake.requests["Refresh"]) == 1


def test_token_is_refreshed_ahead_of_its_expiry_without_a_delay(new_client: type[AnyClient]) -> None:
    with FakeServer() as fake, new_client(fake.address, PASSWORD) as client:
        fake.answer("Login", pair(1, lifetime=5))
        fake.answer("Refresh", UNAVAILABLE, pair(2))
        assert client.access_token() == "access-1"
        time.sleep(4.1)
        assert client.access_token() == "access-1"
        time.sleep(0.8)
        assert client.access_token() == "access-2"


def test_call_is_repeated_once_after_token_expired(new_client: type[AnyClient]) -> None:
    with FakeServer() as fake, new_client(fake.address, PASSWORD) as client:
        fake.answer("Login", pair(1))
        fake.answer("Refresh", pair(2), pair(3))
        fake.answer("GetTask", EXPIRED, Task(id=UUID), EXPIRED)
        assert client.call(*GET).id == UUID
        assert failure(lambda: client.call(*GET)).reason == "TOKEN_EXPIRED"
        assert len(fake.requests["GetTask"]) == 4
        assert [request.refresh_token for request in fake.requests["Refresh"]] == ["refresh-1", "refresh-2"]


def test_given_token_is_sent_as_it_is_and_not_refreshed(new_client: type[AnyClient]) -> None:
    with FakeServer() as fake, new_client(fake.address, "a given token") as client:
        fake.answer("GetTask", EXPIRED)
        assert failure(lambda: client.call(*GET)).reason == "TOKEN_EXPIRED"
        assert fake.tokens["GetTask"] == ["Bearer a given token"]


def test_nothing_is_repeated_after_token_revoked(server: Server, new_client: type[AnyClient]) -> None:
    credentials = server.sign_up()
    with new_client(server.address, credentials) as client, new_client(server.address, credentials) as other:
        token = client.access_token()
        other.call("account", "RevokeOtherSessions", RevokeOtherSessionsRequest())
        assert failure(lambda: client.call("account", "GetMe", GetMeRequest())).reason == "TOKEN_REVOKED"
        assert client.access_token() == token


@pytest.mark.parametrize("reason", ["REFRESH_TOKEN_REUSED", "REFRESH_TOKEN_INVALID"])
def test_revoked_session_is_reported_and_not_renewed(new_client: type[AnyClient], reason: str) -> None:
    with FakeServer() as fake, new_client(fake.address, PASSWORD) as client:
        fake.answer("Login", pair(1, lifetime=0.5))
        fake.answer("Refresh", RefusalError(grpc.StatusCode.UNAUTHENTICATED, reason))
        fake.answer("Logout", LogoutResponse())
        client.access_token()
        time.sleep(0.6)
        for _ in range(2):
            assert failure(client.access_token).reason == reason
        assert (len(fake.requests["Login"]), len(fake.requests["Refresh"])) == (1, 1)
        client.log_out()
        client.access_token()
        assert len(fake.requests["Login"]) == 2


@pytest.mark.parametrize(
    "server", [{"clock_error": -3600}, {"clock_error": 3600}, {"is_older": True}], ids=["behind", "ahead", "older"]
)
def test_tokens_are_renewed_by_their_lifetimes(new_client: type[AnyClient], server: dict[str, Any]) -> None:
    with FakeServer() as fake, new_client(fake.address, PASSWORD) as client:
        fake.answer("Login", pair(1, 0.5, **server), pair(3, **server))
        fake.answer("Refresh", pair(2, 0.5, 0.5, **server), RefusalError(EXPIRED.code, "REFRESH_TOKEN_INVALID"))
        assert [client.access_token() for _ in range(2)] == ["access-1"] * 2
        time.sleep(0.6)
        assert client.access_token() == "access-2"
        # Now the session has expired as well.
        time.sleep(0.6)
        assert [client.access_token() for _ in range(2)] == ["access-3"] * 2


def test_superseded_refresh_token_is_not_sent_again(new_client: type[AnyClient]) -> None:
    with FakeServer() as fake, new_client(fake.address, PASSWORD) as client:
        fake.answer("Login", pair(1, lifetime=0.5))
        fake.answer("Refresh", RefusalError(grpc.StatusCode.ABORTED, "REFRESH_TOKEN_SUPERSEDED"))
        client.access_token()
        time.sleep(0.6)
        for _ in range(2):
            assert failure(client.access_token).reason == "REFRESH_TOKEN_SUPERSEDED"
        assert len(fake.requests["Refresh"]) == 1


def test_session_survives_a_lost_refresh(short_lived: Server, new_client: type[AnyClient]) -> None:
    with Proxy(short_lived.address) as proxy, new_client(proxy.address, short_lived.sign_up()) as client:
        old = client.access_token()
        time.sleep(3.1)
        proxy.is_losing_responses = True
        with ThreadPoolExecutor() as pool:
            token = pool.submit(client.access_token)
            time.sleep(0.5)
            proxy.is_losing_responses = False
            proxy.cut()
            assert token.result() != old
        client.call("account", "GetMe", GetMeRequest())


def test_write_whose_answer_was_lost_takes_effect_once(server: Server, new_client: type[AnyClient]) -> None:
    with Proxy(server.address) as proxy, new_client(proxy.address, server.sign_up()) as client:
        client.call("account", "GetMe", GetMeRequest())
        proxy.is_losing_responses = True
        with ThreadPoolExecutor() as pool:
            created = pool.submit(client.call, *CREATE)
            time.sleep(0.5)
            proxy.is_losing_responses = False
            proxy.cut()
            task = created.result()
        assert [item.id for item in client.list("tasks", "ListTasks", tasks.ListTasksRequest())] == [task.id]


def test_read_continues_after_a_cut_and_fails_in_an_outage(server: Server, new_client: type[AnyClient]) -> None:
    with Proxy(server.address) as proxy, new_client(proxy.address, server.sign_up()) as client:
        client.call("task_lists", "ListTaskLists", ListTaskListsRequest())
        proxy.cut()
        client.call("task_lists", "ListTaskLists", ListTaskListsRequest())
        proxy.is_refusing = True
        proxy.cut()
        started = time.monotonic()
        error = failure(lambda: client.call("task_lists", "ListTaskLists", ListTaskListsRequest()))
        assert (error.code, error.reason) == (grpc.StatusCode.UNAVAILABLE, "")
        assert time.monotonic() - started < 5


def test_retries_wait_as_long_as_the_server_says_and_at_most_twice(new_client: type[AnyClient]) -> None:
    with FakeServer() as fake, new_client(fake.address, "token") as client:
        slower = RefusalError(grpc.StatusCode.UNAVAILABLE, "STORE_UNAVAILABLE", retry_after=0.01, pushback="300")
        fake.answer("GetTask", UNAVAILABLE, slower, Task(id=UUID))
        started = time.monotonic()
        client.call(*GET)
        assert time.monotonic() - started > 0.3
        fake.answer("CreateTask", UNAVAILABLE)
        assert failure(lambda: client.call(*CREATE)).reason == "STORE_UNAVAILABLE"
        assert len(fake.requests["CreateTask"]) == 3
        assert len({request.request_id for request in fake.requests["CreateTask"]}) == 1


@pytest.mark.parametrize(
    "refusal",
    [
        RefusalError(grpc.StatusCode.UNAVAILABLE, "OVERLOADED", pushback="-1"),
        RefusalError(grpc.StatusCode.UNAVAILABLE, "STORE_UNAVAILABLE", retry_after=60),
        RefusalError(grpc.StatusCode.RESOURCE_EXHAUSTED, "QUOTA_EXCEEDED"),
        RefusalError(grpc.StatusCode.RESOURCE_EXHAUSTED, "RATE_LIMITED", retry_after=60),
        RefusalError(grpc.StatusCode.ABORTED, "ETAG_MISMATCH"),
    ],
    ids=["pushback", "late", "no-delay", "rate-limited", "aborted"],
)
def test_call_is_not_repeated(new_client: type[AnyClient], refusal: RefusalError) -> None:
    with FakeServer() as fake, new_client(fake.address, "token") as client:
        fake.answer("GetTask", refusal)
        assert failure(lambda: client.call(*GET)).code is refusal.code
        assert len(fake.requests["GetTask"]) == 1


def test_write_without_request_id_is_not_repeated(new_client: type[AnyClient]) -> None:
    with FakeServer() as fake, new_client(fake.address, "token") as client:
        fake.answer("RevokeOtherSessions", UNAVAILABLE)
        failure(lambda: client.call("account", "RevokeOtherSessions", RevokeOtherSessionsRequest()))
        assert len(fake.requests["RevokeOtherSessions"]) == 1


def test_rate_limited_call_is_repeated_after_the_delay(new_client: type[AnyClient]) -> None:
    with FakeServer() as fake, new_client(fake.address, "token") as client:
        fake.answer("GetTask", RefusalError(grpc.StatusCode.RESOURCE_EXHAUSTED, "RATE_LIMITED", 0.4), Task(id=UUID))
        started = time.monotonic()
        client.call(*GET)
        assert time.monotonic() - started > 0.39


def test_retries_stop_while_most_calls_fail(new_client: type[AnyClient]) -> None:
    with FakeServer() as fake, new_client(fake.address, "token") as client:
        fake.answer("GetTask", UNAVAILABLE)
        for _ in range(10):
            failure(lambda: client.call(*GET))
        assert len(fake.requests["GetTask"]) < 20


def test_calls_end_at_their_deadline(server: Server, new_client: type[AnyClient]) -> None:
    with Proxy(server.address) as proxy, new_client(proxy.address, server.sign_up()) as client:
        client.call("account", "GetMe", GetMeRequest())
        proxy.is_losing_responses = True
        for timeout, least, most in ((0.5, 0.4, 2), (None, 9, 13)):
            started = time.monotonic()
            error = failure(lambda timeout=timeout: client.call("account", "GetMe", GetMeRequest(), timeout))  # type: ignore[misc]
            assert error.code is grpc.StatusCode.DEADLINE_EXCEEDED
            assert least < time.monotonic() - started < most


def test_waiting_for_a_login_ends_at_the_deadline_of_the_call(server: Server, new_client: type[AnyClient]) -> None:
    with Proxy(server.address) as proxy, new_client(proxy.address, server.sign_up()) as client:
        proxy.is_losing_responses = True
        started = time.monotonic()
        error = failure(lambda: client.call("account", "GetMe", GetMeRequest(), 0.5))
        assert error.code is grpc.StatusCode.DEADLINE_EXCEEDED
        assert time.monotonic() - started < 2


def test_client_recovers_after_a_restart(start: Callable[..., Server], new_client: type[AnyClient]) -> None:
    server = start()
    with new_client(server.address, server.sign_up()) as client:
        task = client.call(*CREATE)
        server.restart()
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            try:
                assert client.call("tasks", "GetTask", tasks.GetTaskRequest(id=task.id)).id == task.id
                return
            except taskey.TaskeyError as error:
                assert error.code is grpc.StatusCode.UNAVAILABLE
        raise AssertionError("the client did not recover")
