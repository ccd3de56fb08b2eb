"""Authenticates the callers of a gRPC server."""

from __future__ import annotations

import asyncio
import inspect
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Container, Iterator, Mapping
from typing import Any, NoReturn
from urllib.parse import unquote

import grpc
from google.protobuf import descriptor_pool

from taskey._errors import TaskeyError
from taskey.options.v1 import options_pb2
from taskey.verifier._context import current
from taskey.verifier._status import as_trailers
from taskey.verifier._token import Claims
from taskey.verifier._verifier import Verifier, bearer_token

Behaviour = Callable[[Any, Any], Any]


def _replace(handler: Any, wrap: Callable[[Behaviour], Behaviour]) -> Any:
    """Returns a handler whose behaviour is wrapped."""
    kind = f"{'stream' if handler.request_streaming else 'unary'}_{'stream' if handler.response_streaming else 'unary'}"
    create = getattr(grpc, f"{kind}_rpc_method_handler")
    return create(wrap(getattr(handler, kind)), handler.request_deserializer, handler.response_serializer)


def _required_scope(method: str) -> str:
    """Returns the scope in the contract of a method, or an empty string if it has none."""
    try:
        found = descriptor_pool.Default().FindMethodByName(method.strip("/").replace("/", "."))
    except KeyError:
        return ""
    return str(found.GetOptions().Extensions[options_pb2.scope])


def _address(peer: str) -> str | None:
    """Returns the IP address of a peer, such as `ipv4:127.0.0.1:50051`."""
    kind, _, rest = unquote(peer).partition(":")
    return rest.rpartition(":")[0].strip("[]") if kind in ("ipv4", "ipv6") else None


class _Interceptor(ABC):
    """What both interceptors have in common."""

    def __init__(
        self, verifier: Verifier, public: Container[str] = (), scopes: Mapping[str, str] | None = None
    ) -> None:
        """Creates the interceptor.

        Args:
            verifier: Verifies the tokens.
            public: The methods that need no token, such as `/grpc.health.v1.Health/Check`.
            scopes: The scopes of methods, such as `/example.v1.Reports/List`. Others require that of the option
                `taskey.options.v1.scope` in their contract. If there is none, tokens with scopes are refused.
        """
        self._verifier = verifier
        self._public = public
        self._scopes = scopes or {}

    def _authenticated(self, handler: Any, details: grpc.HandlerCallDetails) -> Any:
        """Returns the handler of a call, which checks the access token first."""
        if handler is None or details.method in self._public:
            return handler
        method = details.method or ""
        wrap = self._wrap_stream if handler.response_streaming else self._wrap_unary
        return _replace(handler, lambda behaviour: wrap(behaviour, method))

    def _credentials(self, context: Any) -> tuple[str, str | None]:
        """Returns the token and the address of the caller."""
        headers = context.invocation_metadata() or ()
        return bearer_token(headers), self._verifier.client_address(_address(context.peer()), headers)

    def _authorize(self, claims: Claims, method: str) -> None:
        """Checks that a token permits a method."""
        if claims.scopes is not None:
            scope = self._scopes.get(method) or _required_scope(method)
            if scope != "public":
                claims.require_scope(scope)

    @abstractmethod
    def _wrap_unary(self, behaviour: Behaviour, method: str) -> Behaviour:
        """Returns a handler that authenticates the caller first."""

    @abstractmethod
    def _wrap_stream(self, behaviour: Behaviour, method: str) -> Behaviour:
        """Returns a handler that authenticates the caller first, and whose stream ends with the token."""


class ServerInterceptor(_Interceptor, grpc.ServerInterceptor):
    """Refuses calls without a valid access token. Handlers get the claims from `caller`.

    A stream ends with its token: this is checked before each message that it sends.
    """

    def intercept_service(self, continuation: Callable[[Any], Any], handler_call_details: Any) -> Any:
        return self._authenticated(continuation(handler_call_details), handler_call_details)

    def _authenticate(self, context: grpc.ServicerContext, method: str) -> Claims:
        try:
            claims = self._verifier.authenticate(*self._credentials(context))
            self._authorize(claims, method)
        except TaskeyError as error:
            _refuse(error, context)
        return claims

    def _wrap_unary(self, behaviour: Behaviour, method: str) -> Behaviour:
        def handle(request: Any, context: grpc.ServicerContext) -> Any:
            reset = current.set(self._authenticate(context, method))
            try:
                return behaviour(request, context)
            finally:
                current.reset(reset)

        return handle

    def _wrap_stream(self, behaviour: Behaviour, method: str) -> Behaviour:
        def handle(request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
            claims = self._authenticate(context, method)
            current.set(claims)
            for message in behaviour(request, context):
                try:
                    self._verifier.check_still_valid(claims)
                except TaskeyError as error:
                    _refuse(error, context)
                yield message

        return handle


def _refuse(error: TaskeyError, context: grpc.ServicerContext) -> NoReturn:
    """Ends a call with an error."""
    context.set_trailing_metadata(as_trailers(error, context.invocation_metadata()))
    context.abort(error.code, error.message)


class AioServerInterceptor(_Interceptor, grpc.aio.ServerInterceptor):
    """Refuses calls to an asyncio server without a valid access token. Handlers get the claims from `caller`.

    A stream ends with its token: this is checked before each message, and every second if the handler writes messages
    itself.
    """

    async def intercept_service(self, continuation: Callable[[Any], Awaitable[Any]], handler_call_details: Any) -> Any:
        return self._authenticated(await continuation(handler_call_details), handler_call_details)

    async def _authenticate(self, context: Any, method: str) -> Claims:
        try:
            claims = await self._verifier.authenticate_async(*self._credentials(context))
            self._authorize(claims, method)
        except TaskeyError as error:
            await _refuse_async(error, context)
        return claims

    def _wrap_unary(self, behaviour: Behaviour, method: str) -> Behaviour:
        async def handle(request: Any, context: Any) -> Any:
            current.set(await self._authenticate(context, method))
            response = behaviour(request, context)
            return await response if inspect.isawaitable(response) else response

        return handle

    def _wrap_stream(self, behaviour: Behaviour, method: str) -> Behaviour:
        async def end_if_invalid(claims: Claims, context: Any) -> None:
            try:
                self._verifier.check_still_valid(claims)
            except TaskeyError as error:
                await _refuse_async(error, context)

        async def write(request: Any, context: Any) -> None:
            claims = await self._authenticate(context, method)
            current.set(claims)
            writing = asyncio.ensure_future(behaviour(request, context))
            try:
                while not (await asyncio.wait({writing}, timeout=1))[0]:
                    await end_if_invalid(claims, context)
                await writing
            finally:
                writing.cancel()

        async def handle(request: Any, context: Any) -> AsyncIterator[Any]:
            claims = await self._authenticate(context, method)
            current.set(claims)
            async for message in behaviour(request, context):
                await end_if_invalid(claims, context)
                yield message

        return write if inspect.iscoroutinefunction(behaviour) else handle


async def _refuse_async(error: TaskeyError, context: Any) -> NoReturn:
    """Ends a call with an error."""
    await context.abort(error.code, error.message, as_trailers(error, context.invocation_metadata()))
    raise AssertionError("`abort` raises an exception")
