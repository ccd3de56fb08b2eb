"""Errors of calls."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import grpc
from google.rpc import error_details_pb2, status_pb2


@dataclass(frozen=True)
class FieldViolation:
    """An invalid field of a request."""

    field: str
    """The path of the field in the request, such as `task.title`."""
    description: str
    """What is wrong with it."""


class TaskeyError(Exception):
    """A call that failed."""

    def __init__(self, code: grpc.StatusCode, message: str, reason: str = "", retry_after: float | None = None) -> None:
        super().__init__(code, message)
        self.code = code
        """The status code."""
        self.message = message
        """A message for developers. It can change, so programs use `reason`."""
        self.reason = reason
        """The name of an `ErrorReason` without its prefix. Empty if the error does not come from a server of Taskey."""
        self.metadata: dict[str, str] = {}
        """Further values that belong to the reason, such as `required` of SCOPE_MISSING."""
        self.violations: tuple[FieldViolation, ...] = ()
        """The invalid fields of the request."""
        self.retry_after = retry_after
        """After how many seconds a retry can succeed, if the server sent this."""
        self.request_id = ""
        """The id under which the server logs the call."""
        self.pushback: float | None = None
        """The delay of `grpc-retry-pushback-ms` in seconds. If it is negative, the call must not be retried."""

    def __str__(self) -> str:
        reason = f" / {self.reason}" if self.reason else ""
        return f"{self.code.name}{reason}: {self.message}"

    @classmethod
    def from_rpc(cls, rpc: Any) -> TaskeyError:
        """Creates the error of a failed `grpc.Call`, with the details that the server sent."""
        error = cls(rpc.code(), rpc.details() or "")
        for key, value in rpc.trailing_metadata() or ():
            if key == "grpc-status-details-bin":
                error._add_details(status_pb2.Status.FromString(value))
            elif key == "grpc-retry-pushback-ms":
                error.pushback = int(value) / 1000 if value.isdecimal() else -1
        return error

    def _add_details(self, status: status_pb2.Status) -> None:
        info, request = error_details_pb2.ErrorInfo(), error_details_pb2.RequestInfo()
        retry, bad_request = error_details_pb2.RetryInfo(), error_details_pb2.BadRequest()
        for detail in status.details:
            if detail.Unpack(info):
                self.reason, self.metadata = info.reason, dict(info.metadata)
            elif detail.Unpack(request):
                self.request_id = request.request_id
            elif detail.Unpack(retry):
                self.retry_after = retry.retry_delay.ToTimedelta().total_seconds()
            elif detail.Unpack(bad_request):
                found = bad_request.field_violations
                self.violations = tuple(FieldViolation(violation.field, violation.description) for violation in found)
