"""The keys of access tokens: a JWK Set (RFC 7517)."""

from __future__ import annotations

import base64
import binascii
import json
import logging
import os
import stat
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from taskey.auth.v1 import token_service_pb2
from taskey.verifier._ed25519 import is_valid_public_key

logger = logging.getLogger("taskey.verifier")


@dataclass(frozen=True)
class Key:
    """A key. Its algorithm is fixed, so that a token cannot choose another (RFC 8725, section 3.1)."""

    id: str
    algorithm: str
    verifying: bytes | Ed25519PublicKey = field(repr=False)
    signing: bytes | Ed25519PrivateKey | None = field(repr=False)
    """`None` if only the public half is available."""


class KeySet:
    """The keys that verify tokens. The first one signs."""

    def __init__(self, keys: list[Key]) -> None:
        if not keys:
            raise ValueError("the key set contains no key")
        self._by_id = {key.id: key for key in keys}
        if len(self._by_id) < len(keys):
            raise ValueError("two keys have the same kid")
        self.first = keys[0]

    @classmethod
    def from_jwks(cls, jwks: Mapping[str, Any], now: float | None = None) -> KeySet:
        """Parses a JWK Set. Expired keys are left out.

        Raises:
            ValueError: A key is neither `oct` with at least 32 bytes, nor `OKP` on Ed25519.
        """
        try:
            keys = [(_parse_key(jwk), jwk.get("exp")) for jwk in jwks["keys"]]
        except (AttributeError, KeyError, TypeError):
            # The text may be secret, so it is not quoted.
            raise ValueError("not a JWK Set (RFC 7517)") from None
        now = time.time() if now is None else now
        return cls([key for key, expiry in keys if expiry is None or expiry > now])

    @classmethod
    def from_public(cls, jwks: token_service_pb2.JwkSet) -> KeySet:
        """Creates a set of the public keys that auth-service sends."""
        names = ("kty", "crv", "x", "alg", "use", "kid")
        return cls.from_jwks({"keys": [{name: getattr(key, name) for name in names} for key in jwks.keys]})

    @classmethod
    def read(cls, file: str | Path) -> KeySet:
        """Reads a key file, which other users must not be able to read."""
        with open(file, "rb") as opened:
            status = os.fstat(opened.fileno())
            # The group may read a key that root owns, which is how Kubernetes mounts secrets.
            allowed = 0o740 if status.st_uid == 0 else 0o700
            if stat.S_IMODE(status.st_mode) & ~allowed:
                raise ValueError(f"{file} is accessible to other users; its mode must be 0600")
            try:
                return cls.from_jwks(json.load(opened))
            except ValueError as error:
                message = "not JSON" if isinstance(error, json.JSONDecodeError) else str(error)
                raise ValueError(f"{file} is not a usable key file: {message}") from None

    def find(self, key_id: str) -> Key | None:
        """Returns the key with a `kid`."""
        return self._by_id.get(key_id)


def decode_base64url(text: str) -> bytes:
    """Decodes base64url without padding (RFC 7515, section 2). Refuses every other form."""
    decoded = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    if base64.urlsafe_b64encode(decoded).rstrip(b"=") != text.encode():
        raise ValueError("not base64url")
    return decoded


def _parse_key(jwk: Mapping[str, Any]) -> Key:
    key_id, use, algorithm = jwk["kid"], jwk.get("use"), jwk.get("alg")
    if use is not None and use != "sig":
        raise ValueError('use must be "sig"')
    if not isinstance(key_id, str) or not 1 <= len(key_id.encode()) <= 128:
        raise ValueError("kid must have 1 to 128 bytes")
    name = {"oct": "HS256", "OKP": "EdDSA"}[jwk["kty"]]
    if algorithm is not None and algorithm != name:
        raise ValueError(f'alg must be "{name}"')
    try:
        return Key(key_id, name, *(_parse_shared_secret(jwk) if name == "HS256" else _parse_ed25519(jwk)))
    except binascii.Error:
        raise ValueError("a member of a key is not base64url") from None


def _parse_shared_secret(jwk: Mapping[str, Any]) -> tuple[bytes, bytes]:
    secret = decode_base64url(jwk["k"])
    if len(secret) < 32:
        raise ValueError("k must have at least 32 bytes")
    return secret, secret


def _parse_ed25519(jwk: Mapping[str, Any]) -> tuple[Ed25519PublicKey, Ed25519PrivateKey | None]:
    public = decode_base64url(jwk["x"])
    if jwk.get("crv") != "Ed25519" or not is_valid_public_key(public):
        raise ValueError("x is not a valid Ed25519 public key")
    private = Ed25519PrivateKey.from_private_bytes(decode_base64url(jwk["d"])) if "d" in jwk else None
    if private and private.public_key().public_bytes_raw() != public:
        raise ValueError("x is not the public key of d")
    return Ed25519PublicKey.from_public_bytes(public), private


class KeySource:
    """The current keys, from a file or from the feed.

    While the source is unusable, the last valid keys remain in use.
    """

    def __init__(self, file: str | Path | None) -> None:
        self._file = file
        self._modified: tuple[int, int] | None = None
        self.current: KeySet | None = KeySet.read(file) if file else None

    def reload(self) -> None:
        """Reads the file again if it has changed."""
        if self._file is None:
            return
        try:
            status = os.stat(self._file)
            modified = (status.st_mtime_ns, status.st_ino)
            if modified != self._modified:
                self.current = KeySet.read(self._file)
                self._modified = modified
        except (OSError, ValueError) as error:
            logger.error("cannot read the key file; the previous keys remain in use: %s", error)

    def receive(self, keys: token_service_pb2.JwkSet) -> None:
        """Replaces the keys by the public keys from the feed, unless the keys come from a file."""
        if self._file is None:
            if not keys.keys:
                raise ValueError("auth-service signs with a shared secret, so this service needs a key file")
            self.current = KeySet.from_public(keys)
