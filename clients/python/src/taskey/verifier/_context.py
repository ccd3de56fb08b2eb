"""The caller of the current call."""

from contextvars import ContextVar

from taskey.verifier._token import Claims

current: ContextVar[Claims] = ContextVar("taskey_caller")


def caller() -> Claims:
    """Returns the claims of the caller of the current call.

    Raises:
        LookupError: The current code does not handle a call behind the interceptor or the middleware.
    """
    return current.get()
