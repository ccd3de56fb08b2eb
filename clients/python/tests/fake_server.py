"""A server with scripted answers, for what the real one does not do on demand."""

from __future__ import annotations

import queue
import threading
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from concurrent import futures
from typing import Any, Self

import grpc
from google.protobuf import any_pb2, descriptor_pool, duration_pb2, message_factory
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2


class RefusalError(Exception):
    """An answer that is an error."""

    def __init__(
        self, code: grpc.StatusCode, reason: str, retry_after: float | None = None, pushback: str = ""
    ) -> None:
        details = [error_details_pb2.ErrorInfo(reason=reason, domain="taskey")]
        if retry_after is not None:
            delay = duration_pb2.Duration(nanos=int(retry_after % 1 * 1e9), seconds=int(retry_after))
            details.append(error_details_pb2.RetryInfo(retry_delay=delay))
        packed = [any_pb2.Any() for _ in details]
        for target, detail in zip(packed, details, strict=True):
            target.Pack(detail)
        status = status_pb2.Status(code=code.value[0], message=reason, details=packed)
        self.code = code
        self.trailers: list[tuple[str, str | bytes]] = [("grpc-status-details-bin", status.SerializeToString())]
        if pushback:
            self.trailers.append(("grpc-retry-pushback-ms", pushback))


class Feed:
    """An answer that is a stream: messages, and then one message again and again, until it is ended."""

    def __init__(self, *messages: Message, heartbeat: Message) -> None:
        self.messages: queue.SimpleQueue[Message] = queue.SimpleQueue()
        for message in messages:
            self.messages.put(message)
        self.heartbeat = heartbeat
        self.ended = threading.Event()

    def __iter__(self) -> Iterator[Message]:
        while not self.ended.is_set():
            try:
                yield self.messages.get(timeout=0.2)
            except queue.Empty:
                yield self.heartbeat


Answer = Message | RefusalError | Feed | bytes | Callable[[], Message]


class FakeServer(grpc.GenericRpcHandler):
    """Returns the answers of a script. The last answer of a method is repeated."""

    def __init__(self) -> None:
        self.script: dict[str, deque[Answer]] = defaultdict(deque)
        self.requests: dict[str, list[Any]] = defaultdict(list)
        self.tokens: dict[str, list[str]] = defaultdict(list)
        self._server = grpc.server(futures.ThreadPoolExecutor(16), handlers=[self])
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def answer(self, method: str, *answers: Answer) -> None:
        """Adds answers of a method, such as `GetTask`."""
        self.script[method].extend(answers)

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any] | None:
        """Returns the handler of a method."""
        path = handler_call_details.method.strip("/").replace("/", ".")
        try:
            method = descriptor_pool.Default().FindMethodByName(path)
        except KeyError:
            return None
        request_class = message_factory.GetMessageClass(method.input_type)

        def handle(request: Any, context: grpc.ServicerContext) -> Any:
            self.requests[method.name].append(request)
            self.tokens[method.name] += [
                str(value) for key, value in context.invocation_metadata() if key == "authorization"
            ]
            answers = self.script[method.name]
            answer = answers.popleft() if len(answers) > 1 else answers[0]
            if callable(answer):
                return answer()
            if isinstance(answer, RefusalError):
                context.set_trailing_metadata(tuple(answer.trailers))
                context.abort(answer.code, "refused")
            return answer

        def stream(request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
            answer = handle(request, context)
            yield from answer if isinstance(answer, Feed) else [answer]

        def serialize(answer: Message | bytes) -> bytes:
            return answer if isinstance(answer, bytes) else answer.SerializeToString()

        if method.server_streaming:
            return grpc.unary_stream_rpc_method_handler(stream, request_class.FromString, serialize)
        return grpc.unary_unary_rpc_method_handler(handle, request_class.FromString, serialize)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop(None)
