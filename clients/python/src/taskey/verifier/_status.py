"""The errors of a verifier, in the form of Taskey's own services."""

from __future__ import annotations

import math
from typing import Any

from google.protobuf import any_pb2, duration_pb2, json_format
from google.rpc import error_details_pb2, status_pb2

from taskey._errors import TaskeyError

HTTP_CODES = {"UNAUTHENTICATED": 401, "UNAVAILABLE": 503}


def as_status(error: TaskeyError) -> status_pb2.Status:
    """Returns the status with `ErrorInfo` and, if set, `RetryInfo`."""
    details = [error_details_pb2.ErrorInfo(reason=error.reason, domain="taskey")]
    if error.retry_after is not None:
        delay = duration_pb2.Duration(seconds=math.ceil(error.retry_after))
        details.append(error_details_pb2.RetryInfo(retry_delay=delay))
    status = status_pb2.Status(code=error.code.value[0], message=error.message)
    for detail in details:
        packed: any_pb2.Any = status.details.add()
        packed.Pack(detail)
    return status


def as_trailers(error: TaskeyError) -> tuple[tuple[str, str | bytes], ...]:
    """Returns the trailing metadata of a refused call."""
    trailers: list[tuple[str, str | bytes]] = [("grpc-status-details-bin", as_status(error).SerializeToString())]
    if error.retry_after is not None:
        trailers.append(("grpc-retry-pushback-ms", str(math.ceil(error.retry_after * 1000))))
    return tuple(trailers)


def as_http(error: TaskeyError) -> tuple[int, dict[str, Any], list[tuple[bytes, bytes]]]:
    """Returns the status code, the body and the headers of a refused HTTP request."""
    code = HTTP_CODES[error.code.name]
    details = [json_format.MessageToDict(detail) for detail in as_status(error).details]
    body = {"error": {"code": code, "status": error.code.name, "message": error.message, "details": details}}
    headers = [(b"content-type", b"application/json"), (b"cache-control", b"no-store")]
    if code == 401:
        value = b"Bearer" if error.reason == "TOKEN_MISSING" else b'Bearer error="invalid_token"'
        headers.append((b"www-authenticate", value))
    if error.retry_after is not None:
        headers.append((b"retry-after", str(math.ceil(error.retry_after)).encode()))
    return code, body, headers
