"""The conformance adapter: translates requests of the driver into calls of the client and the verifier."""

from __future__ import annotations

import asyncio
import json
import sys
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

import grpc
from google.protobuf import descriptor_pool, json_format, message_factory
from google.protobuf.message import Message
from verifiers import VerifierOperations

import taskey

Parameters = dict[str, Any]


def find_stub(client: taskey.AsyncClient, method: str) -> tuple[Any, type[Message]]:
    """Returns the callable of a method, such as `taskey.task.v1.TaskService/GetTask`, and the class of its requests."""
    service, name = method.split("/")
    stubs = {
        "taskey.auth.v1.AuthService": client.auth,
        "taskey.auth.v1.AccountService": client.account,
        "taskey.auth.v1.AdminService": client.admin,
        "taskey.auth.v1.PersonalAccessTokenService": client.personal_access_tokens,
        "taskey.auth.v1.TokenService": client.tokens,
        "taskey.task.v1.TaskService": client.tasks,
        "taskey.task.v1.TaskListService": client.task_lists,
    }
    found = descriptor_pool.Default().FindMethodByName(f"{service}.{name}")
    return getattr(stubs[service], name), message_factory.GetMessageClass(found.input_type)


def error_as_json(error: BaseException) -> Parameters:
    """Returns the error of an operation."""
    if isinstance(error, asyncio.CancelledError):
        error = taskey.TaskeyError(grpc.StatusCode.CANCELLED, "the operation was cancelled")
    if not isinstance(error, taskey.TaskeyError):
        error = taskey.TaskeyError(grpc.StatusCode.UNKNOWN, f"{type(error).__name__}: {error}")
    return {
        "code": error.code.name,
        "reason": error.reason,
        "message": error.message,
        "metadata": error.metadata,
        "violations": [
            {"field": violation.field, "description": violation.description} for violation in error.violations
        ],
        "retry_after_ms": None if error.retry_after is None else round(error.retry_after * 1000),
        "request_id": error.request_id,
    }


class Watch:
    """A watch, which is read in the background so that it can be stopped at any time."""

    def __init__(self, events: AsyncGenerator[taskey.WatchEvent]) -> None:
        self._queue: asyncio.Queue[taskey.WatchEvent | BaseException] = asyncio.Queue()
        self._task = asyncio.create_task(self._receive(events))

    async def _receive(self, events: AsyncGenerator[taskey.WatchEvent]) -> None:
        try:
            async for event in events:
                self._queue.put_nowait(event)
        except BaseException as error:
            self._queue.put_nowait(error)

    async def next(self) -> taskey.WatchEvent:
        """Waits for the next event."""
        event = await self._queue.get()
        if isinstance(event, BaseException):
            self._queue.put_nowait(event)
            raise event
        return event

    async def stop(self) -> None:
        """Cancels the call of the watch."""
        self._task.cancel()
        await self._task


class ClientOperations:
    """The operations of clients."""

    def __init__(self) -> None:
        self._clients: dict[str, taskey.AsyncClient] = {}
        self._watches: dict[str, Watch] = {}

    async def open(self, parameters: Parameters) -> Parameters:
        """Creates a client."""
        credentials: taskey.Password | str | None = parameters.get("access_token")
        if "email" in parameters:
            credentials = taskey.Password(parameters["email"], parameters["password"])
        files = {name: parameters.get(name) for name in ("ca_file", "cert_file", "key_file")}
        tls = taskey.TLS(**files) if parameters["tls"] else None
        self._clients[parameters["client"]] = taskey.AsyncClient(parameters["address"], credentials, tls=tls)
        return {}

    async def call(self, parameters: Parameters) -> Parameters:
        """Calls a method."""
        method, request_class = find_stub(self._clients[parameters["client"]], parameters["method"])
        request = json_format.ParseDict(parameters["request"], request_class())
        timeout = parameters["timeout_ms"] / 1000 if "timeout_ms" in parameters else None
        return {"response": json_format.MessageToDict(await method(request, timeout=timeout))}

    async def list(self, parameters: Parameters) -> Parameters:
        """Lists all items."""
        client = self._clients[parameters["client"]]
        method, request_class = find_stub(client, parameters["method"])
        request = json_format.ParseDict(parameters["request"], request_class())
        return {"items": [json_format.MessageToDict(item) async for item in client.list_all(method, request)]}

    async def watch(self, parameters: Parameters) -> Parameters:
        """Starts a watch."""
        events = self._clients[parameters["client"]].watch(parameters.get("sync_token", ""))
        self._watches[parameters["watch"]] = Watch(events)
        return {}

    async def next(self, parameters: Parameters) -> Parameters:
        """Waits for the next event of a watch."""
        event = await self._watches[parameters["watch"]].next()
        return {
            "reset": event.reset,
            "changes": [json_format.MessageToDict(change) for change in event.changes],
            "list_changes": [json_format.MessageToDict(change) for change in event.list_changes],
            "sync_token": event.sync_token,
            "checkpoint": event.checkpoint,
        }

    async def stop(self, parameters: Parameters) -> Parameters:
        """Ends a watch."""
        await self._watches.pop(parameters["watch"]).stop()
        return {}

    async def token(self, parameters: Parameters) -> Parameters:
        """Returns the access token."""
        return {"access_token": await self._clients[parameters["client"]].access_token()}

    async def logout(self, parameters: Parameters) -> Parameters:
        """Revokes the session."""
        await self._clients[parameters["client"]].log_out()
        return {}

    async def close(self, parameters: Parameters) -> Parameters:
        """Closes a client."""
        await self._clients.pop(parameters["client"]).close()
        return {}


class Adapter:
    """Executes the requests of the driver concurrently."""

    def __init__(self) -> None:
        clients = ClientOperations()
        self._operations: dict[str, Callable[[Parameters], Awaitable[Parameters]]] = {
            "open": clients.open,
            "call": clients.call,
            "list": clients.list,
            "watch": clients.watch,
            "next": clients.next,
            "stop": clients.stop,
            "token": clients.token,
            "logout": clients.logout,
            "close": clients.close,
            "cancel": self._cancel,
            **VerifierOperations().operations,
        }
        self._running: dict[int, asyncio.Task[None]] = {}

    def start(self, request: Parameters) -> None:
        """Starts to execute a request."""
        self._running[request["id"]] = asyncio.create_task(self._execute(request))

    async def _execute(self, request: Parameters) -> None:
        answer: Parameters = {"id": request["id"]}
        try:
            answer["ok"] = await self._operations[request["op"]](request)
        except (Exception, asyncio.CancelledError) as error:
            answer["error"] = error_as_json(error)
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()
        self._running.pop(request["id"], None)

    async def _cancel(self, request: Parameters) -> Parameters:
        if task := self._running.get(request["request"]):
            task.cancel()
        return {}


async def main() -> None:
    """Executes requests until the standard input ends."""
    loop, adapter, ended = asyncio.get_running_loop(), Adapter(), asyncio.Event()

    def read() -> None:
        for line in sys.stdin:
            loop.call_soon_threadsafe(adapter.start, json.loads(line))
        loop.call_soon_threadsafe(ended.set)

    threading.Thread(target=read, daemon=True).start()
    await ended.wait()


if __name__ == "__main__":
    asyncio.run(main())
