"""How calls are made: deadlines, request ids, retries, pages and watches. See `_session` about the coroutines."""

from __future__ import annotations

import functools
import json
import logging
import random
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import descriptor_pool
from google.protobuf.message import Message

from taskey._errors import TaskeyError
from taskey._session import DEFAULT_TIMEOUT, Metadata, Session, bearer
from taskey.options.v1 import options_pb2
from taskey.task.v1 import task_service_pb2 as tasks

CONFIG = json.loads(resources.files("taskey").joinpath("service_config.json").read_text())
RETRIED = {
    f"/{name['service']}/{name['method']}": method_config["retryPolicy"]
    for method_config in CONFIG["methodConfig"]
    if "retryPolicy" in method_config
    for name in method_config["name"]
}
POLICY = next(iter(RETRIED.values()))
THROTTLING = CONFIG["retryThrottling"]
TRANSIENT = {
    grpc.StatusCode[name]
    for name in ("UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED", "INTERNAL", "UNKNOWN", "ABORTED")
}
CHANNEL_OPTIONS = [
    # `Calls` applies the rest: gRPC would ignore RetryInfo, not retry writes, and reduce longer deadlines to 10 s.
    ("grpc.service_config", json.dumps({"loadBalancingConfig": CONFIG["loadBalancingConfig"]})),
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    # Other pings, for which keepalive waits, would time out after 60 s.
    ("grpc.http2.ping_timeout_ms", 10_000),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 5_000),
    ("grpc.max_receive_message_length", 16 * 1024 * 1024),
]
logger = logging.getLogger("taskey")


@dataclass(frozen=True)
class TLS:
    """The PEM files for TLS.

    Without `ca_file`, the certificate authorities in grpcio are trusted. `cert_file` and `key_file` authenticate the
    client (mutual TLS).
    """

    ca_file: str | Path | None = None
    cert_file: str | Path | None = None
    key_file: str | Path | None = None

    def credentials(self) -> grpc.ChannelCredentials:
        """Reads the files."""
        ca, cert, key = (
            Path(file).read_bytes() if file else None for file in (self.ca_file, self.cert_file, self.key_file)
        )
        return grpc.ssl_channel_credentials(ca, key, cert)


@dataclass(frozen=True)
class WatchEvent:
    """An event of a watch."""

    changes: Sequence[tasks.TaskChange]
    """The changes to tasks, in the order in which they happened."""
    list_changes: Sequence[tasks.TaskListChange]
    """The changes to lists, in the order in which they happened."""
    sync_token: str
    """The token with which another watch continues after these changes."""
    checkpoint: bool
    """Whether all changes so far have been received."""
    reset: bool
    """Whether a full synchronization begins with this event, so the local copy must be emptied before the changes."""


@functools.cache
def is_public(method: str) -> bool:
    """Reports whether a method needs no access token."""
    try:
        found = descriptor_pool.Default().FindMethodByName(method.strip("/").replace("/", "."))
    except KeyError:
        return False
    return bool(found.GetOptions().Extensions[options_pb2.scope] == "public")


def with_metadata(details: Any, metadata: Metadata, timeout: float | None) -> grpc.aio.ClientCallDetails:
    """Returns the details of an intercepted call with additional metadata and another timeout."""
    combined = grpc.aio.Metadata(*(details.metadata or ()), *metadata)
    return grpc.aio.ClientCallDetails(details.method, timeout, combined, details.credentials, details.wait_for_ready)


class Calls:
    """Makes the calls of a client."""

    def __init__(self, session: Session, sleep: Callable[[float], Awaitable[None]]) -> None:
        self.session = session
        self._sleep = sleep
        # Limits retries while most calls fail, as gRFC A6 describes.
        self._throttle = float(THROTTLING["maxTokens"])

    async def unary(
        self, method: str, request: Any, timeout: float | None, send: Callable[[Any, Metadata, float], Awaitable[Any]]
    ) -> Any:
        """Calls a method. `send` makes one attempt, with additional metadata and a timeout."""
        policy = RETRIED.get(method)
        if isinstance(request, Message) and "request_id" in request.DESCRIPTOR.fields_by_name:
            policy = POLICY
            original, request = request, type(request)()
            request.CopyFrom(original)
            request.request_id = request.request_id or str(uuid.uuid4())
        deadline = time.monotonic() + (DEFAULT_TIMEOUT if timeout is None else timeout)
        attempt, rejected = 1, None
        while True:
            token = (
                None if is_public(method) else await self.session.access_token(deadline - time.monotonic(), rejected)
            )
            try:
                response = await send(request, bearer(token), deadline - time.monotonic())
            except TaskeyError as error:
                if error.reason == "TOKEN_EXPIRED" and self.session.is_renewable and rejected is None:
                    rejected = token
                    continue
                delay = self._retry_delay(error, attempt, policy)
                if delay is None or time.monotonic() + delay >= deadline:
                    raise
            else:
                self._throttle = min(self._throttle + THROTTLING["tokenRatio"], THROTTLING["maxTokens"])
                return response
            await self._sleep(delay)
            attempt += 1

    async def authorization(self, metadata: Any) -> Metadata:
        """Returns the metadata with the access token, unless the call has a token already."""
        if any(key == "authorization" for key, _ in metadata or ()):
            return ()
        return bearer(await self.session.access_token())

    def _retry_delay(self, error: TaskeyError, attempt: int, policy: dict[str, Any] | None) -> float | None:
        """Returns after how many seconds a call can be retried, or `None` if it must not be retried."""
        is_unavailable = error.code is grpc.StatusCode.UNAVAILABLE
        is_limited = error.code is grpc.StatusCode.RESOURCE_EXHAUSTED and error.retry_after is not None
        if is_unavailable:
            self._throttle = max(self._throttle - 1, 0)
        is_refused = (error.pushback or 0) < 0 or self._throttle <= THROTTLING["maxTokens"] / 2
        if policy is None or attempt >= policy["maxAttempts"] or is_refused or not (is_unavailable or is_limited):
            return None
        if error.pushback is not None or error.retry_after is not None:
            return max(error.pushback or 0, error.retry_after or 0)
        initial, maximum = (float(policy[name][:-1]) for name in ("initialBackoff", "maxBackoff"))
        backoff = min(initial * float(policy["backoffMultiplier"]) ** (attempt - 1), maximum)
        return backoff * random.uniform(0.8, 1.2)

    async def pages(self, send: Callable[[Any], Awaitable[Any]], request: Message) -> AsyncIterator[Any]:
        """Yields all items of all pages."""
        page = type(request)()
        page.CopyFrom(request)
        while True:
            response = await send(page)
            (items,) = (field.name for field in response.DESCRIPTOR.fields if field.is_repeated)
            for item in getattr(response, items):
                yield item
            page_token = getattr(response, "next_page_token", "")
            if not page_token:
                return
            page.page_token = page_token  # type: ignore[attr-defined]

    async def watch(
        self,
        sync_token: str,
        open_stream: Callable[[tasks.WatchTasksRequest, Metadata], Any],
        sleep: Callable[[float], Any],
    ) -> AsyncGenerator[WatchEvent]:
        """Yields the events of a watch. Resumes it whenever its stream ends."""
        failures, reset, rejected = 0, False, None
        while True:
            token, delay = None, 0.0
            try:
                token = await self.session.access_token(rejected=rejected)
                request = tasks.WatchTasksRequest(sync_token=sync_token)
                async with aclosing(open_stream(request, bearer(token))) as stream:
                    async for message in stream:
                        sync_token, failures, rejected = message.sync_token, 0, None
                        changes, list_changes = message.changes, message.list_changes
                        yield WatchEvent(changes, list_changes, sync_token, message.checkpoint, reset)
                        reset = False
            except TaskeyError as error:
                if error.reason == "SYNC_TOKEN_EXPIRED" and sync_token:
                    sync_token, reset = "", True
                elif error.reason == "TOKEN_EXPIRED" and self.session.is_renewable and rejected is None:
                    rejected = token
                elif error.code not in TRANSIENT and error.retry_after is None:
                    raise
                delay = error.retry_after or 0
                logger.info("the watch of tasks is resumed: %s", error)
            failures += 1
            await sleep(max(delay, random.uniform(0, min(0.1 * 2**failures, 5))))
