"""Watches of both clients."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator

import grpc
import pytest
from clients import AnyClient
from conftest import Server
from fake_server import FakeServer, RefusalError
from proxy import Proxy
from test_client import failure
from test_failures import PASSWORD, pair

import taskey
from taskey.task.v1 import task_service_pb2 as tasks
from taskey.task.v1.task_pb2 import Task


def create(client: AnyClient, title: str) -> None:
    """Creates a task, as soon as the server is available."""
    deadline = time.monotonic() + 20
    while True:
        try:
            client.call("tasks", "CreateTask", tasks.CreateTaskRequest(task=Task(title=title)))
            return
        except taskey.TaskeyError as error:
            if error.code is not grpc.StatusCode.UNAVAILABLE or time.monotonic() > deadline:
                raise


def wait_for(events: Iterator[taskey.WatchEvent], title: str) -> taskey.WatchEvent:
    """Returns the event with this task. No event before it may begin a full synchronization."""
    for event in events:
        if any(change.task.title == title for change in event.changes):
            return event
        assert not event.reset
    raise AssertionError("the watch has ended")


def test_watch_continues_after_cut_connections(server: Server, new_client: type[AnyClient]) -> None:
    with Proxy(server.address) as proxy, new_client(proxy.address, server.sign_up()) as client:
        events = client.watch()
        assert next(events).checkpoint
        for title in ("first", "second"):
            create(client, title)
            assert not wait_for(events, title).reset
            proxy.cut()


def test_watch_begins_at_a_sync_token(server: Server, new_client: type[AnyClient]) -> None:
    with new_client(server.address, server.sign_up()) as client:
        create(client, "before")
        token = next(client.watch()).sync_token
        create(client, "after")
        assert [change.task.title for change in next(client.watch(token)).changes] == ["after"]


@pytest.mark.parametrize("abruptly", [True, False], ids=["killed", "terminated"])
def test_watch_continues_after_a_restart(
    start: Callable[..., Server], new_client: type[AnyClient], abruptly: bool
) -> None:
    server = start("--drain-timeout=1s")
    with new_client(server.address, server.sign_up()) as client:
        events = client.watch()
        next(events)
        server.restart(abruptly=abruptly)
        create(client, "after")
        assert not wait_for(events, "after").reset


def test_watch_continues_after_goaway_and_after_its_token_has_expired(
    start: Callable[..., Server], new_client: type[AnyClient]
) -> None:
    server = start("--max-connection-age=2s", "--max-connection-age-grace=1s", "--access-token-ttl=1s")
    with new_client(server.address, server.sign_up()) as client:
        events = client.watch()
        next(events)
        time.sleep(8)
        create(client, "after")
        assert not wait_for(events, "after").reset


def test_watch_notices_a_half_open_connection(server: Server, new_client: type[AnyClient]) -> None:
    credentials = server.sign_up()
    with Proxy(server.address) as proxy, new_client(proxy.address, credentials) as client:
        events = client.watch()
        next(events)
        proxy.abandon()
        with new_client(server.address, credentials) as other:
            create(other, "after")
        started = time.monotonic()
        wait_for(events, "after")
        assert time.monotonic() - started < 40


def test_watch_begins_again_after_its_sync_token_has_expired(new_client: type[AnyClient]) -> None:
    with FakeServer() as fake, new_client(fake.address, PASSWORD) as client:
        fake.answer("Login", pair(1))
        fake.answer("Refresh", pair(2))
        fake.answer(
            "WatchTasks",
            RefusalError(grpc.StatusCode.UNAUTHENTICATED, "TOKEN_EXPIRED"),
            tasks.WatchTasksResponse(sync_token="s1"),
            RefusalError(grpc.StatusCode.OUT_OF_RANGE, "SYNC_TOKEN_EXPIRED"),
            RefusalError(grpc.StatusCode.UNAVAILABLE, "STORE_UNAVAILABLE"),
            tasks.WatchTasksResponse(sync_token="s2", changes=[tasks.TaskChange(id="1")]),
            tasks.WatchTasksResponse(sync_token="s3"),
        )
        events = client.watch("s0")
        received = [next(events) for _ in range(3)]
        assert [(event.sync_token, event.reset) for event in received] == [("s1", False), ("s2", True), ("s3", False)]
        assert [request.sync_token for request in fake.requests["WatchTasks"]][:6] == ["s0", "s0", "s1", "", "", "s2"]
        assert fake.tokens["WatchTasks"][:2] == ["Bearer access-1", "Bearer access-2"]


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (grpc.StatusCode.UNAUTHENTICATED, "TOKEN_REVOKED"),
        (grpc.StatusCode.UNAUTHENTICATED, "TOKEN_EXPIRED"),
        (grpc.StatusCode.INVALID_ARGUMENT, "SYNC_TOKEN_INVALID"),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "QUOTA_EXCEEDED"),
    ],
)
def test_watch_ends_if_calling_again_cannot_help(
    new_client: type[AnyClient], code: grpc.StatusCode, reason: str
) -> None:
    with FakeServer() as fake, new_client(fake.address, "token") as client:
        fake.answer("WatchTasks", RefusalError(code, reason))
        assert failure(lambda: next(client.watch("s0"))).reason == reason


def test_watch_can_be_closed_by_another_thread(server: Server) -> None:
    with taskey.Client(server.address, server.sign_up(), tls=None) as client, client.watch() as watch:
        next(watch)
        threading.Timer(0.3, watch.close).start()
        assert list(watch) == []


def test_watch_can_be_closed_while_it_waits_for_a_retry() -> None:
    with taskey.Client("127.0.0.1:1", "token", tls=None) as client, client.watch() as watch:
        threading.Timer(1, watch.close).start()
        assert list(watch) == []


def test_cancelled_tasks_end_their_calls_and_watches(server: Server) -> None:
    async def check() -> None:
        async with taskey.AsyncClient(server.address, server.sign_up(), tls=None) as client:
            watch = client.watch()
            await anext(watch)
            for work in (anext(watch), client.tasks.ListTasks(tasks.ListTasksRequest())):

                async def wait(work: object = work) -> None:
                    await work  # type: ignore[misc]

                task = asyncio.create_task(wait())
                await asyncio.sleep(0)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task

    asyncio.run(check())
