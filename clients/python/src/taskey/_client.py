"""The synchronous client."""

from __future__ import annotations

import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from concurrent.futures import Future
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

T = TypeVar("T")
Request = TypeVar("Request", bound=Any)


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Runs a coroutine that never suspends, because its I/O blocks."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]
    raise AssertionError("the coroutine has suspended")


def iterate(events: AsyncIterator[T]) -> Iterator[T]:
    """Iterates over an asynchronous generator that never suspends."""
    try:
        while True:
            yield run(events.__anext__())  # type: ignore[arg-type]
    except StopAsyncIteration:
        return
    finally:
        run(events.aclose())  # type: ignore[attr-defined]


class BlockingIo:
    """Implements `taskey._session.Io`."""

    auth: AuthServiceStub

    async def sleep(self, seconds: float) -> None:
        time.sleep(seconds)  # noqa: ASYNC251 (blocks on purpose)

    async def call_auth(self, method: str, request: Any, timeout: float, metadata: Metadata = ()) -> Any:
        return getattr(self.auth, method)(request, timeout=timeout, metadata=metadata)

    def start(self, work: Coroutine[Any, Any, str]) -> Future[str]:
        future: Future[str] = Future()

        def execute() -> None:
            try:
                future.set_result(run(work))
            except BaseException as error:
                future.set_exception(error)

        threading.Thread(target=execute, name="taskey-session", daemon=True).start()
        return future

    async def wait(self, work: Future[str], timeout: float) -> str:
        return work.result(timeout)


class Stream(Iterator[Any]):
    """The messages of a stream, with the methods of `grpc.Call`. Errors are raised as `TaskeyError`."""

    def __init__(self, call: Any) -> None:
        self._call = call

    def __next__(self) -> Any:
        try:
            return next(self._call)
        except grpc.RpcError as error:
            raise TaskeyError.from_rpc(error) from error

    def __getattr__(self, name: str) -> Any:
        return getattr(self._call, name)


class Interceptor(grpc.UnaryUnaryClientInterceptor, grpc.UnaryStreamClientInterceptor):
    """Makes the calls of the generated stubs by `Calls`."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
        async def send(request: Any, metadata: Metadata, timeout: float) -> Any:
            call = continuation(with_metadata(details, metadata, timeout), request)
            try:
                call.result()
            except grpc.RpcError as error:
                raise TaskeyError.from_rpc(error) from error
            return call

        return run(self._calls.unary(details.method, request, details.timeout, send))

    def intercept_unary_stream(self, continuation: Any, details: Any, request: Any) -> Any:
        metadata = run(self._calls.authorization(details.metadata))
        return Stream(continuation(with_metadata(details, metadata, details.timeout), request))


class Client:
    """A client of Taskey. All threads can use it at the same time.

    `auth`, `account`, `admin`, `personal_access_tokens`, `tokens`, `tasks` and `task_lists` are the generated stubs of
    the services. Their calls raise `TaskeyError`. Calls without `timeout` have a deadline of 10 s.
    """

    def __init__(self, address: str, credentials: Password | str | None = None, *, tls: TLS | None = TLS()) -> None:
        """Creates a client. It connects when it makes the first call.

        Args:
            address: The host and port of the gateway.
            credentials: A `Password`; or an access token or personal access token, which is sent as it is.
            tls: The certificates; `None` for plaintext.
        """
        if tls:
            self._channel = grpc.secure_channel(address, tls.credentials(), CHANNEL_OPTIONS)
        else:
            self._channel = grpc.insecure_channel(address, CHANNEL_OPTIONS)
        io = BlockingIo()
        self._session = Session(io, credentials)
        self._calls = Calls(self._session, io.sleep)
        channel = grpc.intercept_channel(self._channel, Interceptor(self._calls))
        self.auth = io.auth = AuthServiceStub(channel)
        self.account = AccountServiceStub(channel)
        self.admin = AdminServiceStub(channel)
        self.personal_access_tokens = PersonalAccessTokenServiceStub(channel)
        self.tokens = TokenServiceStub(channel)
        self.tasks = TaskServiceStub(channel)
        self.task_lists = TaskListServiceStub(channel)

    def access_token(self) -> str | None:
        """Returns the current access token. Logs in or refreshes it if necessary."""
        return run(self._session.access_token())

    def log_out(self, *, wait_for_verifiers: bool = False) -> int:
        """Revokes the session and forgets its tokens. With a password, the next call logs in again.

        Returns the number of verifiers that have confirmed the revocation.
        """
        return run(self._session.log_out(wait_for_verifiers))

    def list_all(self, method: Callable[[Request], Any], request: Request) -> Iterator[Any]:
        """Yields all items of all pages. `method` is a method that lists, such as `client.tasks.ListTasks`."""

        async def send(page: Request) -> Any:
            return method(page)

        return iterate(self._calls.pages(send, request))

    def watch(self, sync_token: str = "") -> Watch:
        """Watches the changes to tasks and lists: first those since the sync token, then later changes as they happen.

        The watch continues after failures. It ends with an error only if calling again cannot help, such as when the
        session was revoked.
        """
        return Watch(self._calls, self.tasks, sync_token)

    def close(self) -> None:
        """Closes the connection, and cancels all calls. The session is not revoked."""
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _ClosedError(Exception):
    """The watch was closed."""


class Watch(Iterator[WatchEvent]):
    """The events of a watch."""

    def __init__(self, calls: Calls, stub: TaskServiceStub, sync_token: str) -> None:
        self._stub = stub
        self._closed = threading.Event()
        self._call: Any = None
        self._events = iterate(calls.watch(sync_token, self._open, self._sleep))

    def __next__(self) -> WatchEvent:
        try:
            return next(self._events)
        except (_ClosedError, TaskeyError):
            if self._closed.is_set():
                raise StopIteration from None
            raise

    def close(self) -> None:
        """Ends the watch. Can be called in any thread."""
        self._closed.set()
        if self._call:
            self._call.cancel()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def _open(self, request: Any, metadata: Metadata) -> AsyncIterator[Any]:
        self._call = self._stub.WatchTasks(request, metadata=metadata)
        try:
            if self._closed.is_set():
                raise _ClosedError
            for message in self._call:
                yield message
        finally:
            self._call.cancel()

    async def _sleep(self, seconds: float) -> None:
        if self._closed.wait(seconds):
            raise _ClosedError
