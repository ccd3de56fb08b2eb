"""The errors of a verifier, in the form of Taskey's own services."""

from __future__ import annotations

import math
import re
import uuid
from collections.abc import Iterable
from typing import Any

from google.protobuf import any_pb2, duration_pb2, json_format
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from taskey._errors import TaskeyError

HTTP_CODES = {"UNAUTHENTICATED": 401, "PERMISSION_DENIED": 403, "RESOURCE_EXHAUSTED": 429, "UNAVAILABLE": 503}


Headers = Iterable[tuple[str | bytes, str | bytes]]


def _request_id(headers: Headers) -> str:
    """Returns the id that the caller has sent, if it is printable ASCII and not too long, or else a new one."""
    for name, value in headers:
        if name in ("x-request-id", b"x-request-id"):
            text = value.decode("latin-1") if isinstance(value, bytes) else value
            return text if re.fullmatch("[!-~]{1,128}", text) else str(uuid.uuid4())
    return str(uuid.uuid4())


def _as_status(error: TaskeyError, headers: Headers) -> status_pb2.Status:
    """Returns the status with `ErrorInfo`, `RequestInfo` and, if set, `RetryInfo`."""
    info = error_details_pb2.ErrorInfo(reason=error.reason, domain="taskey", metadata=error.metadata)
    details: list[Message] = [info]
    details.append(error_details_pb2.RequestInfo(request_id=_request_id(headers)))
    if error.retry_after is not None:
        delay = duration_pb2.Duration()
        delay.FromMilliseconds(math.ceil(error.retry_after * 1000))
        details.append(error_details_pb2.RetryInfo(retry_delay=delay))
    status = status_pb2.Status(code=error.code.value[0], message=error.message)
    for detail in details:
        packed: any_pb2.Any = status.details.add()
        packed.Pack(detail)
    return status


def as_trailers(error: TaskeyError, headers: Headers) -> tuple[tuple[str, str | bytes], ...]:
    """Returns the trailing metadata of a refused call with these headers."""
    status = _as_status(error, headers)
    trailers: list[tuple[str, str | bytes]] = [("grpc-status-details-bin", status.SerializeToString())]
    if error.retry_after is not None:
        trailers.append(("grpc-retry-pushback-ms", str(math.ceil(error.retry_after * 1000))))
    return tuple(trailers)


def _challenge(error: TaskeyError) -> str:
    """Returns what a client needs to be permitted (RFC 6750, section 3, and RFC 9470, section 3)."""
    if error.reason == "STEP_UP_REQUIRED":
        return f'Bearer error="insufficient_user_authentication", max_age="{error.metadata["max_age"]}"'
    return f'Bearer error="insufficient_scope", scope="{error.metadata.get("required", "")}"'


def as_http(error: TaskeyError, request: Headers) -> tuple[int, dict[str, Any], list[tuple[bytes, bytes]]]:
    """Returns the status code, the body and the headers of a refused HTTP request with these headers."""
    code = HTTP_CODES[error.code.name]
    details = [json_format.MessageToDict(detail) for detail in _as_status(error, request).details]
    body = {"error": {"code": code, "status": error.code.name, "message": error.message, "details": details}}
    headers = [(b"content-type", b"application/json"), (b"cache-control", b"no-store")]
    if code == 401:
        value = b"Bearer" if error.reason == "TOKEN_MISSING" else b'Bearer error="invalid_token"'
        headers.append((b"www-authenticate", value))
    if code == 403:
        headers.append((b"www-authenticate", _challenge(error).encode()))
    if error.retry_after is not None:
        headers.append((b"retry-after", str(math.ceil(error.retry_after)).encode()))
    return code, body, headers
