"""Verifies access tokens in services, without a call for each token.

A `Verifier` checks the signature and every claim, and follows the revoked sessions, so that tokens are refused within a
second after a logout. `ServerInterceptor`, `AioServerInterceptor` and `AsgiMiddleware` authenticate the callers of a
server; `caller` returns the claims of the current one. Install it with `pip install 'taskey[verifier]'`.
"""

from taskey.verifier._asgi import AsgiMiddleware
from taskey.verifier._context import caller
from taskey.verifier._grpc import AioServerInterceptor, ServerInterceptor
from taskey.verifier._keys import KeySet
from taskey.verifier._revocations import State
from taskey.verifier._token import Actor, Claims, verify_token
from taskey.verifier._verifier import Verifier

__all__ = [
    "Actor",
    "AioServerInterceptor",
    "AsgiMiddleware",
    "Claims",
    "KeySet",
    "ServerInterceptor",
    "State",
    "Verifier",
    "caller",
    "verify_token",
]
