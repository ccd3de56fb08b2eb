"""A client of Taskey, a to-do backend.

`Client` and `AsyncClient` add sessions, retries and typed errors to the stubs that are generated from the contract.
Services verify the access tokens of their callers with `taskey.verifier`.
"""

from taskey._aio import AsyncClient
from taskey._calls import TLS, WatchEvent
from taskey._client import Client, Watch
from taskey._errors import FieldViolation, TaskeyError
from taskey._session import Password

__all__ = ["TLS", "AsyncClient", "Client", "FieldViolation", "Password", "TaskeyError", "Watch", "WatchEvent"]
