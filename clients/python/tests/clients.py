"""One interface to both clients, so that each test runs with both."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Iterator
from typing import Any, Protocol, Self

import taskey

Credentials = taskey.Password | str | None


class AnyClient(Protocol):
    """A client in a test."""

    def __init__(self, address: str, credentials: Credentials = None, *, tls: taskey.TLS | None = None) -> None: ...
    def call(self, stub: str, method: str, request: Any, timeout: float | None = None) -> Any:
        """Calls a method of a stub."""

    def list(self, stub: str, method: str, request: Any) -> list[Any]:
        """Lists all items."""

    def watch(self, sync_token: str = "") -> Iterator[taskey.WatchEvent]:
        """Watches the tasks."""

    def access_token(self) -> str | None:
        """Returns the access token."""

    def log_out(self) -> int:
        """Logs out."""

    def __enter__(self) -> Self: ...
    def __exit__(self, *_: object) -> None: ...


class SyncTestClient:
    """Uses `taskey.Client`."""

    def __init__(self, address: str, credentials: Credentials = None, *, tls: taskey.TLS | None = None) -> None:
        self.client = taskey.Client(address, credentials, tls=tls)
        self.access_token = self.client.access_token
        self.watch = self.client.watch

    def call(self, stub: str, method: str, request: Any, timeout: float | None = None) -> Any:
        return getattr(getattr(self.client, stub), method)(request, timeout=timeout)

    def list(self, stub: str, method: str, request: Any) -> list[Any]:
        return list(self.client.list_all(getattr(getattr(self.client, stub), method), request))

    def log_out(self) -> int:
        return self.client.log_out(wait_for_verifiers=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()


class AsyncTestClient:
    """Uses `taskey.AsyncClient`, in an event loop of its own."""

    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, daemon=True).start()

    def __init__(self, address: str, credentials: Credentials = None, *, tls: taskey.TLS | None = None) -> None:
        async def create() -> taskey.AsyncClient:
            return taskey.AsyncClient(address, credentials, tls=tls)

        self.client = self._run(create())

    def _run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(100)

    def call(self, stub: str, method: str, request: Any, timeout: float | None = None) -> Any:
        async def call() -> Any:
            return await getattr(getattr(self.client, stub), method)(request, timeout=timeout)

        return self._run(call())

    def list(self, stub: str, method: str, request: Any) -> list[Any]:
        async def collect() -> list[Any]:
            return [item async for item in self.client.list_all(getattr(getattr(self.client, stub), method), request)]

        return self._run(collect())  # type: ignore[no-any-return]

    def watch(self, sync_token: str = "") -> Iterator[taskey.WatchEvent]:
        events = self.client.watch(sync_token)

        async def receive() -> taskey.WatchEvent:
            return await anext(events)

        async def close() -> None:
            await events.aclose()

        try:
            while True:
                yield self._run(receive())
        finally:
            self._run(close())

    def access_token(self) -> str | None:
        return self._run(self.client.access_token())  # type: ignore[no-any-return]

    def log_out(self) -> int:
        return self._run(self.client.log_out(wait_for_verifiers=True))  # type: ignore[no-any-return]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._run(self.client.close())
