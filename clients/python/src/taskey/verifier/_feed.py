"""Follows the feed of revocations of auth-service, in a thread of its own."""

from __future__ import annotations

import itertools
import logging
import queue
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence

import grpc

from taskey._calls import TLS
from taskey._session import Metadata
from taskey.auth.v1 import token_service_pb2 as pb
from taskey.auth.v1.token_service_pb2_grpc import TokenServiceStub
from taskey.verifier._keys import KeySource
from taskey.verifier._revocations import HEARTBEAT_LIMIT, Revocations
from taskey.verifier._token import LEEWAY, MAX_LIFETIME

FIRST_MESSAGE_TIMEOUT = 1.5
MIN_BACKOFF, MAX_BACKOFF = 0.05, 0.3
"""The delay between attempts doubles from the minimum to the maximum, with jitter."""
MAX_STREAM_AGE = MAX_LIFETIME - 120
"""A stream is replaced before the token that opened it expires."""
STABLE_AFTER = 5.0
"""When a stream fails after more than this time, the backoff starts over, and the failure is logged."""

OPTIONS = [("grpc.max_receive_message_length", 16 * 1024 * 1024), ("grpc.use_local_subchannel_pool", 1)]

logger = logging.getLogger("taskey.verifier")
Message = pb.WatchRevocationsResponse


class Feed:
    """Keeps the revoked sessions and the public keys up to date."""

    def __init__(
        self,
        addresses: Sequence[str],
        tls: TLS | None,
        authorize: Callable[[], Metadata],
        keys: KeySource,
        revocations: Revocations,
    ) -> None:
        self._addresses = addresses
        self._credentials = tls.credentials() if tls else None
        self._authorize = authorize
        self._keys = keys
        self._revocations = revocations
        self._closed = threading.Event()
        self._epoch = ""
        self._is_clock_wrong = False
        self._acknowledgement: object = None
        self._thread = threading.Thread(target=self._run, name="taskey-revocations", daemon=True)

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def close(self) -> None:
        """Ends the thread."""
        self._closed.set()
        self._thread.join()

    def _run(self) -> None:
        backoff, is_failure_logged = MIN_BACKOFF, False
        for address in itertools.cycle(self._addresses):
            started = time.monotonic()
            failure = ""
            try:
                self._keys.reload()
                self._follow(address)
            except (grpc.RpcError, TimeoutError, ValueError) as error:
                failure = f"{error.code().name}: {error.details()}" if isinstance(error, grpc.Call) else str(error)
            if self._closed.is_set():
                return
            age = time.monotonic() - started
            if age > STABLE_AFTER:
                backoff, is_failure_logged = MIN_BACKOFF, False
            if age >= MAX_STREAM_AGE:
                continue
            # Of several failures in a row, only the first is logged.
            if not is_failure_logged:
                logger.warning("the feed of revocations from %s failed: %s", address, failure or "the stream ended")
                is_failure_logged = True
            self._closed.wait(backoff * random.uniform(0.5, 1.5))
            backoff = min(backoff * 2, MAX_BACKOFF)

    def _follow(self, address: str) -> None:
        """Follows one peer to the end of its stream."""
        if self._credentials:
            channel = grpc.secure_channel(address, self._credentials, OPTIONS)
        else:
            channel = grpc.insecure_channel(address, OPTIONS)
        with channel:
            stub = TokenServiceStub(channel)
            call = stub.WatchRevocations(
                pb.WatchRevocationsRequest(), timeout=MAX_STREAM_AGE, metadata=self._authorize()
            )
            messages: queue.SimpleQueue[Message | grpc.RpcError | None] = queue.SimpleQueue()
            reader = threading.Thread(target=_read, args=(call, messages), daemon=True)
            reader.start()
            try:
                self._apply(stub, messages)
            finally:
                call.cancel()
                reader.join()

    def _apply(self, stub: TokenServiceStub, messages: queue.SimpleQueue[Message | grpc.RpcError | None]) -> None:
        """Applies the messages of a stream. The snapshot takes effect when it is complete."""
        snapshot: list[str] | None = []
        pending: Message | None = None
        timeout = FIRST_MESSAGE_TIMEOUT
        while (message := self._next(messages, timeout)) is not None:
            timeout = HEARTBEAT_LIMIT
            event = message.WhichOneof("event")
            if event == "keys":
                # A peer that cannot read its revocations also sends keys, so they are not a heartbeat.
                self._keys.receive(message.keys)
            elif event == "snapshot_chunk" and snapshot is not None:
                snapshot += message.snapshot_chunk.revoked_session_ids
            elif event == "snapshot_end" and snapshot is not None:
                end = message.snapshot_end
                self._keys.receive(end.keys)
                issued_before = end.issued_before.ToNanoseconds() / 1e9 if end.HasField("issued_before") else None
                self._revocations.add_snapshot(snapshot, issued_before)
                snapshot = None
                pending = message
            elif event == "update" and snapshot is None:
                self._revocations.add(message.update.revoked_session_ids)
                pending = message
            elif event == "heartbeat" and snapshot is None:
                self._keys.reload()
                self._revocations.add()
            elif event is not None:
                raise ValueError("the feed does not consist of one snapshot and then updates")
            # Of several updates, the last one acknowledges all.
            if pending and messages.empty():
                self._acknowledge(stub, pending)
                pending = None

    def _next(self, messages: queue.SimpleQueue[Message | grpc.RpcError | None], timeout: float) -> Message | None:
        """Returns the next message. Fails if the peer sends nothing for too long, even if its connection is open."""
        deadline = time.monotonic() + timeout
        while not self._closed.is_set():
            try:
                message = messages.get(timeout=0.2)
            except queue.Empty:
                if time.monotonic() < deadline:
                    continue
                raise TimeoutError("no heartbeat in time") from None
            if isinstance(message, grpc.RpcError):
                raise message
            if message is not None:
                self._monitor(message)
            return message
        return None

    def _monitor(self, message: Message) -> None:
        """Logs changes of the history and of the clocks."""
        if self._epoch not in ("", message.epoch):
            logger.warning("auth-service has lost history; all revocations that were received remain in effect")
        self._epoch = message.epoch
        if message.HasField("send_time"):
            skew = message.send_time.ToNanoseconds() / 1e9 - time.time()
            if abs(skew) > LEEWAY and not self._is_clock_wrong:
                logger.error("the clock of auth-service differs by %.1f s from the clock of this machine", skew)
            self._is_clock_wrong = abs(skew) > LEEWAY

    def _acknowledge(self, stub: TokenServiceStub, message: Message) -> None:
        """Acknowledges what has taken effect. Failures are ignored: the stream shows whether the peer is alive."""
        request = pb.AcknowledgeRevocationsRequest(watch_id=message.watch_id, sequence=message.sequence)
        # A call is cancelled when it is no longer referenced. A later acknowledgement replaces it.
        self._acknowledgement = stub.AcknowledgeRevocations.future(request, timeout=1, metadata=self._authorize())


def _read(call: Iterator[Message], messages: queue.SimpleQueue[Message | grpc.RpcError | None]) -> None:
    """Receives the messages of a stream, so that waiting for one can time out."""
    try:
        for message in call:
            messages.put(message)
        messages.put(None)
    except grpc.RpcError as error:
        messages.put(error)
