"""The asynchronous client, for asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, Self, TypeVar

import grpc

from taskey._calls import CHANNEL_OPTIONS, TLS, Calls, WatchEvent, with_metadata
from taskey._errors import TaskeyError
from taskey._session import Metadata, Password, Session
from taskey.auth.v1.account_service_pb2_grpc import AccountServiceStub
from taskey.auth.v1.admin_service_pb2_grpc import AdminServiceStub
from taskey.auth.v1.auth_service_pb2_grpc import AuthServiceStub
from taskey.auth.v1.personal_access_token_service_pb2_grpc import PersonalAccessTokenServiceStub
from taskey.auth.v1.token_service_pb2_grpc import TokenServiceStub
from taskey.task.v1.task_list_service_pb2_grpc import TaskListServiceStub
from taskey.task.v1.task_service_pb2_grpc import TaskServiceStub

Request = TypeVar("Request", bound=Any)


@contextmanager
def translated_errors() -> Iterator[None]:
    """Translates the errors of gRPC."""
    try:
        yield
    except grpc.RpcError as error:
        raise TaskeyError.from_rpc(error) from error
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task and task.cancelling():
            raise
        # grpcio raises the same error if the server or a proxy has cancelled the call.
        raise TaskeyError(grpc.StatusCode.CANCELLED, "the call was interrupted") from error


class AsyncIo:
    """Implements `taskey._session.Io`."""

    auth: Any

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def call_auth(self, method: str, request: Any, timeout: float, metadata: Metadata = ()) -> Any:
        return await getattr(self.auth, method)(request, timeout=timeout, metadata=metadata)

    def start(self, work: Coroutine[Any, Any, str]) -> asyncio.Task[str]:
        task = asyncio.create_task(work)
        # An error that nobody waits for is not logged.
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        return task

    async def wait(self, work: asyncio.Task[str], timeout: float) -> str:
        async with asyncio.timeout(timeout):
            return await asyncio.shield(work)


class UnaryInterceptor(grpc.aio.UnaryUnaryClientInterceptor):
    """Makes the calls of the generated stubs by `Calls`."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    async def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
        async def send(request: Any, metadata: Metadata, timeout: float) -> Any:
            call = await continuation(with_metadata(details, metadata, timeout), request)
            with translated_errors():
                await call
            return call

        return await self._calls.unary(as_text(details.method), request, details.timeout, send)


class StreamInterceptor(grpc.aio.UnaryStreamClientInterceptor):
    """Adds the access token to the streams of the generated stubs."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    async def intercept_unary_stream(self, continuation: Any, details: Any, request: Any) -> Any:
        metadata = await self._calls.authorization(details.metadata)
        call = await continuation(with_metadata(details, metadata, details.timeout), request)

        async def receive() -> AsyncIterator[Any]:
            with translated_errors():
                async for message in call:
                    yield message

        return receive()


def as_text(method: str | bytes) -> str:
    """Returns the name of a method."""
    return method.decode() if isinstance(method, bytes) else method


class AsyncClient:
    """A client of Taskey for asyncio. All tasks of an event loop can use it at the same time.

    `auth`, `account`, `admin`, `personal_access_tokens`, `tokens`, `tasks` and `task_lists` are the generated stubs of
    the services. Their calls raise `TaskeyError`. Calls without `timeout` have a deadline of 10 s. Cancelling a task
    cancels its calls.
    """

    def __init__(self, address: str, credentials: Password | str | None = None, *, tls: TLS | None = TLS()) -> None:
        """Creates a client, like `taskey.Client`."""
        io = AsyncIo()
        self._session = Session(io, credentials)
        self._calls = calls = Calls(self._session, io.sleep)
        interceptors = [UnaryInterceptor(calls), StreamInterceptor(calls)]
        if tls:
            files = tls.credentials()
            channel = grpc.aio.secure_channel(address, files, CHANNEL_OPTIONS, interceptors=interceptors)
        else:
            channel = grpc.aio.insecure_channel(address, CHANNEL_OPTIONS, interceptors=interceptors)
        self._channel = channel
        self.auth = io.auth = AuthServiceStub(channel)
        self.account = AccountServiceStub(channel)
        self.admin = AdminServiceStub(channel)
        self.personal_access_tokens = PersonalAccessTokenServiceStub(channel)
        self.tokens = TokenServiceStub(channel)
        self.tasks = TaskServiceStub(channel)
        self.task_lists = TaskListServiceStub(channel)

    async def access_token(self) -> str | None:
        """Returns the current access token. Logs in or refreshes it if necessary."""
        return await self._session.access_token()

    async def log_out(self, *, wait_for_verifiers: bool = False) -> int:
        """Revokes the session, like `taskey.Client.log_out`."""
        return await self._session.log_out(wait_for_verifiers)

    def list_all(self, method: Callable[[Request], Any], request: Request) -> AsyncIterator[Any]:
        """Yields all items of all pages. `method` is a method that lists, such as `client.tasks.ListTasks`."""
        return self._calls.pages(method, request)

    def watch(self, sync_token: str = "") -> AsyncGenerator[WatchEvent]:
        """Watches the changes to tasks and lists, like `taskey.Client.watch`. Cancelling the task ends the watch."""
        return self._calls.watch(sync_token, self._open, asyncio.sleep)

    async def _open(self, request: Any, metadata: Metadata) -> AsyncIterator[Any]:
        call = self.tasks.WatchTasks(request, metadata=metadata)
        try:
            async for message in call:
                yield message
        finally:
            call.cancel()

    async def close(self) -> None:
        """Closes the connection, and cancels all calls. The session is not revoked."""
        await self._channel.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
