"""Authenticates the callers of a gRPC server."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Container, Iterator
from typing import Any

import grpc

from taskey._errors import TaskeyError
from taskey.verifier._context import current
from taskey.verifier._status import as_trailers
from taskey.verifier._token import Claims
from taskey.verifier._verifier import Verifier

Behaviour = Callable[[Any, Any], Any]


def _authenticate(verifier: Verifier, details: grpc.HandlerCallDetails) -> Claims:
    metadata = details.invocation_metadata or ()
    return verifier.authenticate([value for key, value in metadata if key == "authorization"])


def _replace(
    handler: Any, wrap_unary: Callable[[Behaviour], Behaviour], wrap_stream: Callable[[Behaviour], Behaviour]
) -> Any:
    """Returns a handler whose behaviour is wrapped."""
    kind = f"{'stream' if handler.request_streaming else 'unary'}_{'stream' if handler.response_streaming else 'unary'}"
    wrap = wrap_stream if handler.response_streaming else wrap_unary
    create = getattr(grpc, f"{kind}_rpc_method_handler")
    return create(wrap(getattr(handler, kind)), handler.request_deserializer, handler.response_serializer)


class _Interceptor:
    """What both interceptors have in common."""

    def __init__(self, verifier: Verifier, public: Container[str] = ()) -> None:
        """Creates the interceptor. Methods in `public`, such as `/grpc.health.v1.Health/Check`, need no token."""
        self._verifier = verifier
        self._public = public


class ServerInterceptor(_Interceptor, grpc.ServerInterceptor):
    """Refuses calls without a valid access token. Handlers get the claims from `caller`.

    A stream ends with its token: this is checked before each message that it sends.
    """

    def intercept_service(self, continuation: Callable[[Any], Any], handler_call_details: Any) -> Any:
        handler = continuation(handler_call_details)
        if handler is None or handler_call_details.method in self._public:
            return handler
        try:
            claims = _authenticate(self._verifier, handler_call_details)
        except TaskeyError as error:
            refused = error
            return _replace(handler, lambda _: _refuser(refused), lambda _: _refuser(refused))

        def wrap_unary(behaviour: Behaviour) -> Behaviour:
            def handle(request: Any, context: grpc.ServicerContext) -> Any:
                reset = current.set(claims)
                try:
                    return behaviour(request, context)
                finally:
                    current.reset(reset)

            return handle

        def wrap_stream(behaviour: Behaviour) -> Behaviour:
            def handle(request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
                current.set(claims)
                for message in behaviour(request, context):
                    try:
                        self._verifier.check_still_valid(claims)
                    except TaskeyError as error:
                        _refuser(error)(request, context)
                    yield message

            return handle

        return _replace(handler, wrap_unary, wrap_stream)


def _refuser(error: TaskeyError) -> Behaviour:
    def refuse(_request: Any, context: grpc.ServicerContext) -> Any:
        context.set_trailing_metadata(as_trailers(error))
        context.abort(error.code, error.message)

    return refuse


class AioServerInterceptor(_Interceptor, grpc.aio.ServerInterceptor):
    """Refuses calls to an asyncio server without a valid access token. Handlers get the claims from `caller`.

    A stream ends with its token: this is checked before each message, and every second if the handler writes messages
    itself.
    """

    async def intercept_service(self, continuation: Callable[[Any], Awaitable[Any]], handler_call_details: Any) -> Any:
        handler = await continuation(handler_call_details)
        if handler is None or handler_call_details.method in self._public:
            return handler
        try:
            claims = _authenticate(self._verifier, handler_call_details)
        except TaskeyError as error:
            refused = error

            async def refuse(_request: Any, context: Any) -> None:
                await _abort(context, refused)

            return _replace(handler, lambda _: refuse, lambda _: refuse)

        def wrap_unary(behaviour: Behaviour) -> Behaviour:
            async def handle(request: Any, context: Any) -> Any:
                current.set(claims)
                response = behaviour(request, context)
                return await response if inspect.isawaitable(response) else response

            return handle

        def wrap_stream(behaviour: Behaviour) -> Behaviour:
            async def write(request: Any, context: Any) -> None:
                current.set(claims)
                writing = asyncio.ensure_future(behaviour(request, context))
                try:
                    while not (await asyncio.wait({writing}, timeout=1))[0]:
                        await self._end_if_invalid(claims, context)
                    await writing
                finally:
                    writing.cancel()

            async def handle(request: Any, context: Any) -> AsyncIterator[Any]:
                current.set(claims)
                async for message in behaviour(request, context):
                    await self._end_if_invalid(claims, context)
                    yield message

            return write if inspect.iscoroutinefunction(behaviour) else handle

        return _replace(handler, wrap_unary, wrap_stream)

    async def _end_if_invalid(self, claims: Claims, context: Any) -> None:
        try:
            self._verifier.check_still_valid(claims)
        except TaskeyError as error:
            await _abort(context, error)


async def _abort(context: Any, error: TaskeyError) -> None:
    await context.abort(error.code, error.message, as_trailers(error))
