"""Verifies the messages of webhooks, which are signed according to Standard Webhooks."""

import base64
import binascii
import hashlib
import hmac
import time
from collections.abc import Mapping

TOLERANCE = 300
"""How far the timestamp of a message may differ from the clock of the receiver, in seconds."""


class InvalidSignatureError(Exception):
    """A message was not signed with this secret, or not recently."""


def verify(secret: str, headers: Mapping[str, str], body: bytes, *, now: float | None = None) -> None:
    """Check the signature and the timestamp of a message.

    ``secret`` is the one that ``CreateWebhook`` or ``RotateWebhookSecret`` has returned, ``headers`` has names in lower
    case or ignores the case, and ``body`` is the body as it was received. ``now`` replaces the clock. A message can
    arrive more than once: ignore those with a ``webhook-id`` that was processed before.

    Raises ``InvalidSignatureError``, and ``ValueError`` if the secret is invalid.
    """
    try:
        key = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except binascii.Error:
        raise ValueError("the secret is invalid") from None
    identifier, timestamp = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if not identifier or not timestamp.isascii() or not timestamp.isdigit():
        raise InvalidSignatureError("a header is missing or invalid")
    if abs((time.time() if now is None else now) - int(timestamp)) > TOLERANCE:
        raise InvalidSignatureError("the timestamp is too old or in the future")
    tag = hmac.digest(key, f"{identifier}.{timestamp}.".encode() + body, hashlib.sha256)
    expected = b"v1," + base64.b64encode(tag)
    signatures = headers.get("webhook-signature", "").split()
    if not any(hmac.compare_digest(signature.encode(), expected) for signature in signatures):
        raise InvalidSignatureError("no signature is valid")
