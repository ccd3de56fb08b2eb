"""Servers behind the verifier: gRPC, for threads and asyncio, and ASGI."""

from __future__ import annotations

import asyncio
import json
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent import futures
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import grpc
import pytest
import uvicorn
from clients import AsyncTestClient
from conftest import Server
from test_client import failure
from test_verifier import new_verifier, wait_until

import taskey
from taskey._errors import TaskeyError
from taskey.task.v1 import task_service_pb2 as tasks
from taskey.task.v1.task_pb2 import Task
from taskey.task.v1.task_service_pb2_grpc import TaskServiceServicer, TaskServiceStub, add_TaskServiceServicer_to_server
from taskey.verifier import AioServerInterceptor, AsgiMiddleware, ServerInterceptor, State, Verifier, caller

PUBLIC = ("/taskey.task.v1.TaskService/ListTasks", "/public")


@pytest.fixture(scope="module")
def verifier(server: Server) -> Iterator[Verifier]:
    """A verifier that is ready."""
    with new_verifier(server) as created:
        wait_until(lambda: created.state is State.FRESH)
        yield created


class SyncService(TaskServiceServicer):
    """Returns the caller."""

    def GetTask(self, request: Any, context: Any) -> Task:  # noqa: N802
        return Task(id=caller().sub)

    def ListTasks(self, request: Any, context: Any) -> tasks.ListTasksResponse:  # noqa: N802
        with pytest.raises(LookupError):
            caller()
        return tasks.ListTasksResponse()

    def WatchTasks(self, request: Any, context: Any) -> Iterator[tasks.WatchTasksResponse]:  # noqa: N802
        while context.is_active():
            yield tasks.WatchTasksResponse(sync_token=caller().sub)
            time.sleep(0.1)


class AsyncService(TaskServiceServicer):
    """Returns the caller."""

    async def GetTask(self, request: Any, context: Any) -> Task:  # noqa: N802
        return Task(id=caller().sub)

    async def ListTasks(self, request: Any, context: Any) -> tasks.ListTasksResponse:  # noqa: N802
        with pytest.raises(LookupError):
            caller()
        return tasks.ListTasksResponse()

    async def WatchTasks(self, request: Any, context: Any) -> AsyncIterator[tasks.WatchTasksResponse]:  # noqa: N802
        while True:
            yield tasks.WatchTasksResponse(sync_token=caller().sub)
            await asyncio.sleep(0.1)


class WritingService(AsyncService):
    """Writes the messages of its streams itself."""

    async def WatchTasks(self, request: Any, context: Any) -> None:  # type: ignore[override]  # noqa: N802
        await context.write(tasks.WatchTasksResponse(sync_token=caller().sub))
        await asyncio.Event().wait()


@contextmanager
def sync_server(verifier: Verifier) -> Iterator[str]:
    """Starts a server for threads."""
    server = grpc.server(futures.ThreadPoolExecutor(4), interceptors=[ServerInterceptor(verifier, PUBLIC)])
    add_TaskServiceServicer_to_server(SyncService(), server)  # type: ignore[abstract]
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None)


@contextmanager
def aio_server(verifier: Verifier, service: Callable[[], Any] = AsyncService) -> Iterator[str]:
    """Starts a server for asyncio."""

    async def start() -> tuple[grpc.aio.Server, int]:
        server = grpc.aio.server(interceptors=[AioServerInterceptor(verifier, PUBLIC)])
        add_TaskServiceServicer_to_server(service(), server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        return server, port

    server, port = asyncio.run_coroutine_threadsafe(start(), AsyncTestClient.loop).result(10)
    yield f"127.0.0.1:{port}"
    asyncio.run_coroutine_threadsafe(server.stop(None), AsyncTestClient.loop).result(10)


def writing_server(verifier: Verifier) -> AbstractContextManager[str]:
    """Starts a server for asyncio whose handlers write messages themselves."""
    return aio_server(verifier, WritingService)


@pytest.mark.parametrize("start_server", [sync_server, aio_server, writing_server])
def test_interceptor(server: Server, verifier: Verifier, start_server: Any) -> None:
    with (
        start_server(verifier) as address,
        taskey.Client(server.address, server.sign_up(), tls=None) as client,
        grpc.insecure_channel(address) as channel,
    ):
        stub, token = TaskServiceStub(channel), client.access_token()
        metadata = (("authorization", f"Bearer {token}"),)
        user = verifier.verify(token or "").sub
        assert stub.GetTask(tasks.GetTaskRequest(), metadata=metadata).id == user
        stub.ListTasks(tasks.ListTasksRequest())

        def refusal(*headers: str, request_id: str = "") -> TaskeyError:
            with pytest.raises(grpc.RpcError) as raised:
                sent = [*(("authorization", header) for header in headers), ("x-request-id", request_id)]
                stub.GetTask(tasks.GetTaskRequest(), metadata=tuple(sent))
            return TaskeyError.from_rpc(raised.value)

        missing = refusal()
        assert (missing.code, missing.reason) == (grpc.StatusCode.UNAUTHENTICATED, "TOKEN_MISSING")
        assert refusal(request_id="call-1").request_id == "call-1"
        for unusable in ("", "two words", "x" * 129):
            assert uuid.UUID(refusal(request_id=unusable).request_id)
        for headers in (["Bearer x"], ["Basic x"], ["Bearer"], [f"Bearer {token}", f"Bearer {token}"]):
            assert refusal(*headers).reason == "TOKEN_INVALID"
        stream = stub.WatchTasks(tasks.WatchTasksRequest(), metadata=(*metadata, ("x-request-id", "watch")))
        assert next(stream).sync_token == user
        client.log_out()
        with pytest.raises(grpc.RpcError) as raised:
            list(stream)
        revoked = TaskeyError.from_rpc(raised.value)
        assert (revoked.reason, revoked.request_id) == ("TOKEN_REVOKED", "watch")
        with pytest.raises(grpc.RpcError) as raised:
            list(stub.WatchTasks(tasks.WatchTasksRequest(), metadata=metadata))
        assert TaskeyError.from_rpc(raised.value).reason == "TOKEN_REVOKED"


def test_interceptor_of_a_cold_verifier_sends_when_to_retry(server: Server) -> None:
    with (
        new_verifier(server, "127.0.0.1:1") as cold,
        sync_server(cold) as address,
        taskey.Client(address, "token", tls=None) as client,
    ):
        error = failure(lambda: client.tasks.GetTask(tasks.GetTaskRequest(), timeout=0.5))
        assert (error.reason, error.retry_after, error.pushback) == ("VERIFIER_NOT_READY", 1, 1)


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Returns the caller."""
    body = b"public" if scope["path"] == "/public" else caller().sub.encode()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})


@contextmanager
def http_server(verifier: Verifier) -> Iterator[str]:
    """Starts an HTTP server."""
    middleware = AsgiMiddleware(application, verifier, PUBLIC)
    server = uvicorn.Server(uvicorn.Config(middleware, port=0, log_level="warning", lifespan="off"))
    serving = asyncio.run_coroutine_threadsafe(server.serve(), AsyncTestClient.loop)
    wait_until(lambda: server.started)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    serving.result(10)


def get(url: str, authorization: str = "") -> tuple[int, Any, Any]:
    """Returns the status code, the body and the headers of a response."""
    request = urllib.request.Request(url, headers={"authorization": authorization} if authorization else {})
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            return response.status, response.read().decode(), response.headers
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read()), error.headers


def test_asgi_middleware(server: Server, verifier: Verifier) -> None:
    with http_server(verifier) as url, taskey.Client(server.address, server.sign_up(), tls=None) as client:
        token = client.access_token() or ""
        assert get(url, f"bearer {token}")[:2] == (200, verifier.verify(token).sub)
        assert get(f"{url}/public")[:2] == (200, "public")
        code, body, headers = get(url)
        assert (code, headers["www-authenticate"], body["error"]["status"]) == (401, "Bearer", "UNAUTHENTICATED")
        details = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "TOKEN_MISSING", "domain": "taskey"}
        info = {
            "@type": "type.googleapis.com/google.rpc.RequestInfo",
            "requestId": body["error"]["details"][1]["requestId"],
        }
        assert body["error"]["details"] == [details, info]
        assert uuid.UUID(info["requestId"])
        client.log_out(wait_for_verifiers=True)
        code, body, headers = get(url, f"Bearer {token}")
        assert (code, headers["www-authenticate"]) == (401, 'Bearer error="invalid_token"')
        assert body["error"]["details"][0]["reason"] == "TOKEN_REVOKED"


def test_asgi_middleware_of_a_cold_verifier(server: Server) -> None:
    with new_verifier(server, "127.0.0.1:1") as cold, http_server(cold) as url:
        code, body, headers = get(url, "Bearer x")
        assert (code, headers["retry-after"], body["error"]["status"]) == (503, "1", "UNAVAILABLE")
        assert [detail.get("reason") for detail in body["error"]["details"]] == ["VERIFIER_NOT_READY", None, None]


def test_web_socket_is_closed_and_other_protocols_pass(verifier: Verifier) -> None:
    sent: list[Any] = []

    async def send(event: Any) -> None:
        sent.append(event["type"])

    async def run() -> None:
        middleware = AsgiMiddleware(lifespan, verifier)
        await middleware({"type": "websocket", "path": "/", "headers": []}, lifespan, send)
        await middleware({"type": "lifespan"}, lifespan, send)

    async def lifespan(*_: Any) -> Any:
        sent.append("application")

    asyncio.run(run())
    assert sent == ["websocket.close", "application"]
