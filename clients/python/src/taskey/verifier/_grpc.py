"""Authenticates the callers of a gRPC server."""

from __future__ import annotations

import asyncio
import inspect
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Container, Iterator
from typing import Any

import grpc

from taskey._errors import TaskeyError
from taskey.verifier._context import current
from taskey.verifier._status import as_trailers
from taskey.verifier._token import Claims
from taskey.verifier._verifier import Verifier

Behaviour = Callable[[Any, Any], Any]


def _replace(handler: Any, wrap: Callable[[Behaviour], Behaviour]) -> Any:
    """Returns a handler whose behaviour is wrapped."""
    kind = f"{'stream' if handler.request_streaming else 'unary'}_{'stream' if handler.response_streaming else 'unary'}"
    create = getattr(grpc, f"{kind}_rpc_method_handler")
    return create(wrap(getattr(handler, kind)), handler.request_deserializer, handler.response_serializer)


class _Interceptor(ABC):
    """What both interceptors have in common."""

    def __init__(self, verifier: Verifier, public: Container[str] = ()) -> None:
        """Creates the interceptor. Methods in `public`, such as `/grpc.health.v1.Health/Check`, need no token."""
        self._verifier = verifier
        self._public = public

    def _authenticated(self, handler: Any, details: grpc.HandlerCallDetails) -> Any:
        """Returns the handler of a call, after a check of its access token."""
        if handler is None or details.method in self._public:
            return handler
        metadata = details.invocation_metadata or ()
        try:
            claims = self._verifier.authenticate([value for key, value in metadata if key == "authorization"])
        except TaskeyError as error:
            refuse = self._refuser(error)
            return _replace(handler, lambda _: refuse)
        wrap = self._wrap_stream if handler.response_streaming else self._wrap_unary
        return _replace(handler, lambda behaviour: wrap(behaviour, claims))

    @abstractmethod
    def _refuser(self, error: TaskeyError) -> Behaviour:
        """Returns a handler that fails."""

    @abstractmethod
    def _wrap_unary(self, behaviour: Behaviour, claims: Claims) -> Behaviour:
        """Returns a handler that sets the claims of the caller."""

    @abstractmethod
    def _wrap_stream(self, behaviour: Behaviour, claims: Claims) -> Behaviour:
        """Returns a handler that sets the claims of the caller, and whose stream ends with the token."""


class ServerInterceptor(_Interceptor, grpc.ServerInterceptor):
    """Refuses calls without a valid access token. Handlers get the claims from `caller`.

    A stream ends with its token: this is checked before each message that it sends.
    """

    def intercept_service(self, continuation: Callable[[Any], Any], handler_call_details: Any) -> Any:
        return self._authenticated(continuation(handler_call_details), handler_call_details)

    def _refuser(self, error: TaskeyError) -> Behaviour:
        def refuse(_request: Any, context: grpc.ServicerContext) -> Any:
            context.set_trailing_metadata(as_trailers(error, context.invocation_metadata()))
            context.abort(error.code, error.message)

        return refuse

    def _wrap_unary(self, behaviour: Behaviour, claims: Claims) -> Behaviour:
        def handle(request: Any, context: grpc.ServicerContext) -> Any:
            reset = current.set(claims)
            try:
                return behaviour(request, context)
            finally:
                current.reset(reset)

        return handle

    def _wrap_stream(self, behaviour: Behaviour, claims: Claims) -> Behaviour:
        def handle(request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
            current.set(claims)
            for message in behaviour(request, context):
                try:
                    self._verifier.check_still_valid(claims)
                except TaskeyError as error:
                    self._refuser(error)(request, context)
                yield message

        return handle


class AioServerInterceptor(_Interceptor, grpc.aio.ServerInterceptor):
    """Refuses calls to an asyncio server without a valid access token. Handlers get the claims from `caller`.

    A stream ends with its token: this is checked before each message, and every second if the handler writes messages
    itself.
    """

    async def intercept_service(self, continuation: Callable[[Any], Awaitable[Any]], handler_call_details: Any) -> Any:
        return self._authenticated(await continuation(handler_call_details), handler_call_details)

    def _refuser(self, error: TaskeyError) -> Behaviour:
        async def refuse(_request: Any, context: Any) -> None:
            trailers = as_trailers(error, context.invocation_metadata())
            await context.abort(error.code, error.message, trailers)

        return refuse

    def _wrap_unary(self, behaviour: Behaviour, claims: Claims) -> Behaviour:
        async def handle(request: Any, context: Any) -> Any:
            current.set(claims)
            response = behaviour(request, context)
            return await response if inspect.isawaitable(response) else response

        return handle

    def _wrap_stream(self, behaviour: Behaviour, claims: Claims) -> Behaviour:
        async def end_if_invalid(request: Any, context: Any) -> None:
            try:
                self._verifier.check_still_valid(claims)
            except TaskeyError as error:
                await self._refuser(error)(request, context)

        async def write(request: Any, context: Any) -> None:
            current.set(claims)
            writing = asyncio.ensure_future(behaviour(request, context))
            try:
                while not (await asyncio.wait({writing}, timeout=1))[0]:
                    await end_if_invalid(request, context)
                await writing
            finally:
                writing.cancel()

        async def handle(request: Any, context: Any) -> AsyncIterator[Any]:
            current.set(claims)
            async for message in behaviour(request, context):
                await end_if_invalid(request, context)
                yield message

        return write if inspect.iscoroutinefunction(behaviour) else handle
