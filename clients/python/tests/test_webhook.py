"""The verification of webhooks agrees with the vectors, and with the library of Standard Webhooks."""

import datetime
import json
import os
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import standardwebhooks.webhooks as reference

from taskey import webhook

VECTORS_FILE = Path(__file__).parents[2] / "conformance" / "webhooks.json"
"""The messages that must be accepted or refused; `clients/webhooks` records further ones."""
VECTORS = json.loads(Path(os.environ.get("TASKEY_WEBHOOK_VECTORS", VECTORS_FILE)).read_text())


class Clock(datetime.datetime):
    """The time of the vectors."""

    @classmethod
    def now(cls, tz: datetime.tzinfo | None = None) -> "Clock":
        """Return the time of the vectors."""
        return cls.fromtimestamp(VECTORS["now"], tz)


def is_valid(case: dict[str, Any]) -> bool:
    """Report whether the client accepts a message."""
    try:
        webhook.verify(case["secret"], case["headers"], case["body"].encode(), now=VECTORS["now"])
    except webhook.InvalidSignatureError:
        return False
    return True


def is_valid_in_reference(case: dict[str, Any]) -> bool:
    """Report whether the library of Standard Webhooks accepts a message."""
    with mock.patch.object(reference, "datetime", Clock):
        try:
            reference.Webhook(case["secret"]).verify(case["body"], case["headers"])
        except json.JSONDecodeError:
            # The signature was accepted.
            return True
        except (reference.WebhookVerificationError, ValueError):
            return False
    return True


@pytest.mark.parametrize("case", VECTORS["cases"], ids=lambda case: case["name"])
def test_vectors(case: dict[str, Any]) -> None:
    assert is_valid(case) == is_valid_in_reference(case) == case["valid"]


def test_invalid_secret_is_an_error() -> None:
    with pytest.raises(ValueError, match="the secret is invalid"):
        webhook.verify("whsec_%", {}, b"")
