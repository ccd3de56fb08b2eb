"""Access tokens: JWTs in the profile of RFC 9068, verified as strictly as RFC 8725 requires."""

from __future__ import annotations

import json
import re
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import grpc
import jwt

from taskey._errors import TaskeyError
from taskey.verifier._keys import KeySet, decode_base64url

MAX_TOKEN_BYTES = 4096
MAX_LIFETIME = 15 * 60
"""Maximum lifetime of access tokens, in seconds."""
LEEWAY = 5
"""Tolerated difference between the clocks of two machines, in seconds."""
MAX_ACTORS = 3
"""Maximum number of services that act for a user one after another."""
TOKEN_TYPE = "at+jwt"
INVALID_MESSAGE = "the access token is not valid"

_COMPACT = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
_UUID = re.compile(r"[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")
_SCOPES = re.compile(r"[!#-\[\]-~]+( [!#-\[\]-~]+)*")
# An access token has few: of its claims and of their lists. The parser of Python would exceed its stack.
_MAX_BRACKETS = 64
_JWS = jwt.PyJWS(algorithms=["HS256", "EdDSA"])


@dataclass(frozen=True)
class Actor:
    """A service that acts for the user of a token (RFC 8693, section 4.1)."""

    sub: str
    """The id of the service."""
    act: Actor | None = None
    """The service for which this one acts in turn."""
    sid: str | None = None
    """The id of the session of the service, after whose end the token is refused."""


@dataclass(frozen=True)
class Claims:
    """The claims of a verified access token."""

    sub: str
    """The id of the user."""
    sid: str
    """The id of the session."""
    jti: str
    """The id of the token."""
    iat: int
    """When the token was issued, in seconds since the Unix epoch."""
    exp: int
    """When the token expires, in seconds since the Unix epoch."""
    roles: tuple[str, ...]
    """The roles of the user."""
    scopes: tuple[str, ...] | None = None
    """What the token permits: the claim `scope`. Without it, the token permits all that the roles do."""
    amr: tuple[str, ...] | None = None
    """How the user logged in (RFC 8176), such as `pwd` and `otp`."""
    auth_time: int | None = None
    """When the user last proved who they are, in seconds since the Unix epoch."""
    act: Actor | None = None
    """The service that acts for the user."""
    is_personal_access_token: bool = False
    """Whether the token is a personal access token: `jti` is its id, and `iat` is when it was exchanged."""

    def session_ids(self) -> Iterator[str]:
        """Returns the sessions with which the token ends: those of the user and of the services in `act`."""
        yield self.sid
        actor = self.act
        while actor is not None:
            if actor.sid is not None:
                yield actor.sid
            actor = actor.act

    def permits(self, scope: str) -> bool:
        """Reports whether the token has a scope, such as `tasks.read`."""
        return self.scopes is None or scope in self.scopes

    def require_scope(self, scope: str) -> None:
        """Checks that the token has a scope. With an empty scope, tokens with scopes are refused.

        Raises:
            TaskeyError: PERMISSION_DENIED / SCOPE_MISSING.
        """
        if self.scopes is None or (scope and scope in self.scopes):
            return
        missing = f"the access token does not have the scope `{scope}`"
        message = missing if scope else "tokens with scopes are not accepted here"
        error = TaskeyError(grpc.StatusCode.PERMISSION_DENIED, message, "SCOPE_MISSING")
        error.metadata = {"required": scope} if scope else {}
        raise error

    def require_fresh(self, max_age: int, now: float | None = None) -> None:
        """Checks that the user has proved the password or a second factor at most `max_age` seconds ago.

        The tokens of programs, which have scopes, no `auth_time` and no `act`, are exempt. After this error, the client
        of the user calls `AccountService.Reauthenticate`, and repeats the call with the new token.

        Raises:
            TaskeyError: PERMISSION_DENIED / STEP_UP_REQUIRED.
        """
        now = time.time() if now is None else now
        is_program = self.scopes is not None and self.act is None
        is_fresh = is_program if self.auth_time is None else now - self.auth_time <= max_age + LEEWAY
        if is_fresh:
            return
        message = "prove the password or a second factor again, then repeat the call"
        error = TaskeyError(grpc.StatusCode.PERMISSION_DENIED, message, "STEP_UP_REQUIRED")
        error.metadata = {"required": "reauthentication", "max_age": str(max_age)}
        raise error

    def has_expired(self, now: float) -> bool:
        """Reports whether the token has expired, allowing for `LEEWAY`."""
        return self.exp + LEEWAY <= now


def invalid_token() -> TaskeyError:
    """Returns the error of a token that is not valid. It does not say why."""
    return TaskeyError(grpc.StatusCode.UNAUTHENTICATED, INVALID_MESSAGE, "TOKEN_INVALID")


class UnknownKeyError(TaskeyError):
    """A token is signed with an unknown key, which may be a new one that has not been received yet."""


def expired_token() -> TaskeyError:
    """Returns the error of an expired token."""
    return TaskeyError(grpc.StatusCode.UNAUTHENTICATED, "the access token has expired", "TOKEN_EXPIRED")


def verify_token(keys: KeySet, issuer: str, audience: str, token: str, now: float | None = None) -> Claims:
    """Verifies the format, the signature and every claim of a token. Does not check whether its session was revoked.

    Raises:
        TaskeyError: UNAUTHENTICATED / TOKEN_EXPIRED if the token is otherwise valid, else TOKEN_INVALID.
    """
    now = time.time() if now is None else now
    try:
        claims = _verify(keys, issuer, audience, token, now)
    except (ValueError, RecursionError, jwt.PyJWTError):
        raise invalid_token() from None
    if claims.has_expired(now):
        raise expired_token()
    return claims


def _verify(keys: KeySet, issuer: str, audience: str, token: str, now: float) -> Claims:
    if len(token) > MAX_TOKEN_BYTES or not _COMPACT.fullmatch(token):
        raise ValueError("not the compact serialization of a JWS")
    header, payload, _ = (decode_base64url(part) for part in token.split("."))
    # Any other member could change how the token is verified: `crit`, `jwk`, `jku`, `x5u`, `zip`, `b64`.
    members = _parse_object(header)
    if set(members) != {"alg", "kid", "typ"} or not all(isinstance(value, str) for value in members.values()):
        raise ValueError("unexpected members of the header")
    key = keys.find(members["kid"])
    if key is None:
        raise UnknownKeyError(grpc.StatusCode.UNAUTHENTICATED, INVALID_MESSAGE, "TOKEN_INVALID")
    if members["typ"] != TOKEN_TYPE or members["alg"] != key.algorithm:
        raise ValueError("another type of token or another algorithm")
    _JWS.decode(token, key.verifying, algorithms=[key.algorithm])
    return _check_claims(_parse_object(payload), issuer, audience, now)


def _check_claims(claims: dict[str, Any], issuer: str, audience: str, now: float) -> Claims:
    iat, exp, roles = _integer(claims.get("iat")), _integer(claims.get("exp")), claims.get("roles")
    valid_from = max(iat, _integer(claims["nbf"])) if "nbf" in claims else iat
    if claims.get("iss") != issuer or claims.get("aud") != audience:
        raise ValueError("another issuer or audience")
    if not 0 < exp - iat <= MAX_LIFETIME or valid_from > int(now + LEEWAY):
        raise ValueError("not valid at this time")
    sub, sid, jti = (normalize_id(claims.get(name)) for name in ("sub", "sid", "jti"))
    optional = {name: parse(claims[name]) for name, parse in _OPTIONAL.items() if name in claims}
    scopes = optional.pop("scope", None)
    if optional.get("auth_time", iat) > iat:
        raise ValueError("authenticated after the token was issued")
    return Claims(sub, sid, jti, iat, exp, _strings(roles), scopes, **optional)


def parse_scopes(value: object) -> tuple[str, ...]:
    """Parses names that are separated by single spaces, none of them twice (RFC 6749, section 3.3)."""
    if not isinstance(value, str) or not _SCOPES.fullmatch(value):
        raise ValueError("not a list of scopes")
    scopes = tuple(value.split(" "))
    if len(set(scopes)) < len(scopes):
        raise ValueError("duplicate scopes")
    return scopes


def _strings(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(element, str) for element in value):
        raise ValueError("not a list of strings")
    "".join(value).encode()  # Refuses unpaired surrogates.
    return tuple(value)


def _actor(value: object, maximum: int = MAX_ACTORS) -> Actor:
    if not isinstance(value, dict) or maximum == 0:
        raise ValueError("not an actor")
    act = _actor(value["act"], maximum - 1) if "act" in value else None
    return Actor(normalize_id(value.get("sub")), act, normalize_id(value["sid"]) if "sid" in value else None)


def _integer(value: object) -> int:
    """Returns a claim that must be an integer, which neither `true` nor `1.0` is."""
    if type(value) is not int or not -(2**63) <= value < 2**63:
        raise ValueError("not an integer")
    return value


# The claims that not all tokens have.
_OPTIONAL: dict[str, Callable[[object], Any]] = {
    "scope": parse_scopes,
    "amr": _strings,
    "auth_time": _integer,
    "act": _actor,
}


def normalize_id(value: object) -> str:
    """Returns the canonical form of an id, which must be a hyphenated UUID."""
    if not isinstance(value, str) or not _UUID.fullmatch(value):
        raise ValueError("not a UUID")
    return value.lower()


def _parse_object(text: bytes) -> dict[str, Any]:
    """Parses a JSON object. Refuses duplicate members, and numbers that JSON does not have."""
    if not text.startswith(b"{") or text.count(b"[") + text.count(b"{") > _MAX_BRACKETS:
        raise ValueError("not an object of a token")
    parsed: dict[str, Any] = json.loads(text.decode(), object_pairs_hook=_refuse_duplicates, parse_constant=_refuse)
    return parsed


def _refuse_duplicates(members: list[tuple[str, Any]]) -> dict[str, Any]:
    parsed = dict(members)
    if len(parsed) < len(members):
        raise ValueError("duplicate members")
    return parsed


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def sign_token(keys: KeySet, issuer: str, audience: str, role: str) -> str:
    """Signs an access token for this service itself, which has the signing key."""
    key = keys.first
    if key.signing is None:
        raise ValueError("the first key is a public key, which cannot sign")
    now = int(time.time())
    claims = {"iss": issuer, "aud": audience, "iat": now, "exp": now + MAX_LIFETIME, "roles": [role]}
    claims |= {name: str(uuid.uuid4()) for name in ("sub", "sid", "jti")}
    return jwt.encode(claims, key.signing, key.algorithm, {"kid": key.id, "typ": TOKEN_TYPE})
