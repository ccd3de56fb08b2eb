"""Hostile tokens and keys. The shared vectors of the conformance suite contain many more."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from taskey import TaskeyError
from taskey.verifier import Actor, Claims, KeySet, verify_token
from taskey.verifier._ed25519 import is_valid_public_key

NOW = 1_800_000_000
SECRET = b"thirty-two bytes to sign a token"
PRIVATE = Ed25519PrivateKey.from_private_bytes(b"and thirty-two more for Ed25519.")
UUID = "01890a5d-ac96-774b-bcce-b302099a8057"
HEADER: dict[str, Any] = {"alg": "HS256", "kid": "shared", "typ": "at+jwt"}
PAIR_HEADER: dict[str, Any] = {"alg": "EdDSA", "kid": "pair", "typ": "at+jwt"}
CLAIMS: dict[str, Any] = {"iss": "taskey", "aud": "taskey", "sub": UUID, "sid": UUID, "jti": UUID} | {
    "iat": NOW - 10,
    "exp": NOW + 290,
    "roles": ["admin"],
}


def encode(data: bytes) -> str:
    """Encodes base64url."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


SHARED_KEY: dict[str, Any] = {"kty": "oct", "kid": "shared", "k": encode(SECRET)}
PAIR_KEY: dict[str, Any] = {
    "kty": "OKP",
    "crv": "Ed25519",
    "kid": "pair",
    "x": encode(PRIVATE.public_key().public_bytes_raw()),
}
KEYS = KeySet.from_jwks({"keys": [SHARED_KEY, PAIR_KEY]}, NOW)


def hs256(message: bytes) -> bytes:
    """Signs with the shared secret."""
    return hmac.digest(SECRET, message, hashlib.sha256)


def token(header: object = HEADER, claims: object = CLAIMS, sign: Callable[[bytes], bytes] = hs256) -> str:
    """Signs a token of any header and claims, which are objects or text."""
    parts = [part if isinstance(part, str) else json.dumps(part) for part in (header, claims)]
    message = ".".join(encode(part.encode()) for part in parts)
    return f"{message}.{encode(sign(message.encode()))}"


def verify(text: str, now: float = NOW) -> Claims:
    """Verifies a token."""
    return verify_token(KEYS, "taskey", "taskey", text, now)


def reason(text: str, now: float = NOW) -> str:
    """Returns why a token is refused."""
    with pytest.raises(TaskeyError) as raised:
        verify(text, now)
    return raised.value.reason


def test_valid_tokens_are_accepted() -> None:
    expected = Claims(sub=UUID, sid=UUID, jti=UUID, iat=NOW - 10, exp=NOW + 290, roles=("admin",))
    assert verify(token()) == verify(token(PAIR_HEADER, sign=PRIVATE.sign)) == expected
    assert verify(token(claims=CLAIMS | {"unknown": {"a": [1.5]}, "nbf": NOW + 5, "sub": UUID.upper()})) == expected


def test_token_is_valid_until_the_leeway_has_passed() -> None:
    assert verify(token(), NOW + 294.9)
    assert reason(token(), NOW + 295) == "TOKEN_EXPIRED"
    assert verify(token(), NOW - 15)
    assert reason(token(), NOW - 15.1) == "TOKEN_INVALID"


@pytest.mark.parametrize(
    "claims",
    [
        *({name: value for name, value in CLAIMS.items() if name != absent} for absent in CLAIMS),
        *(CLAIMS | {"iat": value} for value in (NOW + 6, float(NOW), str(NOW), True, None, NOW - 700)),
        *(CLAIMS | {"exp": value} for value in (NOW - 10, NOW + 891, 2**63, 1e300)),
        *(CLAIMS | {"nbf": value} for value in (NOW + 6, None, 1.5)),
        *(CLAIMS | {"aud": value} for value in (["taskey"], "Taskey", None)),
        *(CLAIMS | {"sid": value} for value in (UUID.replace("-", ""), f"{{{UUID}}}", f"{UUID}\n", 1)),
        *(CLAIMS | {"roles": value} for value in ("admin", [1], [["admin"]], {"admin": 1}, ["\ud800"])),
        *(json.dumps(CLAIMS)[:-1] + f', "{name}": "{UUID}"}}' for name in ("sid", "\\u0073id")),
        *("", "[]", "null", json.dumps([CLAIMS]), json.dumps(CLAIMS) + "x", "\ufeff" + json.dumps(CLAIMS)),
        *(json.dumps(CLAIMS)[:-1] + f', "x": {value}}}' for value in ("NaN", "[" * 999 + "]" * 999)),
    ],
)
def test_invalid_claims_are_refused(claims: object) -> None:
    assert reason(token(claims=claims)) == "TOKEN_INVALID"


@pytest.mark.parametrize(
    "header",
    [
        *({name: value for name, value in HEADER.items() if name != absent} for absent in HEADER),
        *(HEADER | {"alg": value} for value in ("none", "None", "hs256", "HS384", "EdDSA", None)),
        *(HEADER | {"typ": value} for value in ("JWT", "AT+JWT", "application/at+jwt", None)),
        *(HEADER | {"kid": value} for value in ("", "pair", "unknown", "../shared", ["shared"])),
        *(HEADER | member for member in ({"crit": ["b64"]}, {"b64": False}, {"jwk": PAIR_KEY}, {"zip": "DEF"})),
        '{"alg": "HS256", "kid": "shared", "typ": "at+jwt", "alg": "HS256"}',
        json.dumps([HEADER]),
    ],
)
def test_invalid_headers_are_refused(header: object) -> None:
    assert reason(token(header)) == "TOKEN_INVALID"


def test_other_forms_and_signatures_are_refused() -> None:
    valid = token()
    message, _, signature = valid.rpartition(".")
    public = PRIVATE.public_key().public_bytes_raw()
    for text in (
        *("", ".", "..", message, f"{message}.", f"{valid}.", f" {valid}", f"{valid}\n", f"{valid}=", valid * 2),
        *(valid.replace(".", "\uff0e"), f"{message}.{signature[:-1]}", f"{message}.{'A' * 43}"),
        # Another encoding of the same bytes.
        valid[:-1] + chr(ord(valid[-1]) + 1),
        token(PAIR_HEADER, sign=lambda data: hmac.digest(public, data, hashlib.sha256)),
        token(claims=CLAIMS | {"x": "x" * 4096}),
    ):
        assert reason(text) == "TOKEN_INVALID"


def test_expiry_is_reported_only_for_otherwise_valid_tokens() -> None:
    expired = CLAIMS | {"iat": NOW - 400, "exp": NOW - 100}
    assert reason(token(claims=expired)) == "TOKEN_EXPIRED"
    assert reason(token(claims=expired | {"iss": "other"})) == "TOKEN_INVALID"
    assert reason(token(claims=expired, sign=lambda _: b"0" * 32)) == "TOKEN_INVALID"


@pytest.mark.parametrize(
    "keys",
    [
        [],
        [SHARED_KEY, SHARED_KEY],
        [SHARED_KEY | {"exp": NOW}],
        *([SHARED_KEY | {"k": value}] for value in (encode(SECRET[:31]), f"{encode(SECRET)}=", "\u00e4" * 44, 1)),
        *([SHARED_KEY | member] for member in ({"use": "enc"}, {"alg": "HS512"}, {"kty": "RSA"}, {"kid": ""})),
        *([PAIR_KEY | member] for member in ({"crv": "X25519"}, {"d": encode(SECRET)}, {"x": encode(bytes(32))})),
        *([PAIR_KEY | {"x": encode(value)}] for value in (b"\x01" + bytes(31), b"\xff" * 32, bytes(31))),
        [{}],
        "keys",
    ],
)
def test_unusable_keys_are_refused(keys: Any) -> None:
    with pytest.raises(ValueError, match=r"."):
        KeySet.from_jwks({"keys": keys}, NOW)


def test_public_keys_must_be_in_the_subgroup_of_prime_order() -> None:
    assert is_valid_public_key(PRIVATE.public_key().public_bytes_raw())
    for hexadecimal in (
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0100000000000000000000000000000000000000000000000000000000000000",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "0200000000000000000000000000000000000000000000000000000000000000",
    ):
        assert not is_valid_public_key(bytes.fromhex(hexadecimal))


SESSION = "01890a5d-ac96-774b-bcce-b30200000002"


def nested_actors(count: int) -> dict[str, Any]:
    """Returns the claim `act` of services that act for each other."""
    return {"sub": UUID} | ({"act": nested_actors(count - 1)} if count > 1 else {})


def test_optional_claims_are_returned() -> None:
    act = {"sub": UUID, "sid": SESSION, "act": {"sub": UUID}}
    optional = {"scope": "tasks.read x", "amr": ["pwd", "otp"], "auth_time": NOW - 60, "act": act}
    found = verify(token(claims=CLAIMS | optional))
    assert (found.scopes, found.amr, found.auth_time) == (("tasks.read", "x"), ("pwd", "otp"), NOW - 60)
    assert found.act == Actor(UUID, Actor(UUID), SESSION)
    assert list(found.session_ids()) == [found.sid, SESSION]
    assert found.permits("x") and not found.permits("tasks.write")
    plain = verify(token())
    assert plain.permits("tasks.write") and (plain.amr, plain.auth_time, plain.act) == (None, None, None)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("scope", [None, "", " ", "tasks.read ", "tasks.read  x", "x x", 'a"b', "a\\b", "naïve", 1, ["tasks.read"]]),
        ("amr", [None, "pwd", [1], [None], {}]),
        ("auth_time", [None, "1", 1.5, True, [1], NOW]),
        ("act", [None, "x", {}, {"sub": None}, {"sub": "x"}, {"sub": UUID, "act": "x"}, nested_actors(4), []]),
        ("act", [{"sub": UUID, "sid": None}, {"sub": UUID, "sid": "x"}, {"sub": UUID, "act": {"sub": UUID, "sid": 1}}]),
    ],
)
def test_optional_claims_of_another_type_are_invalid(name: str, values: list[Any]) -> None:
    for value in values:
        assert reason(token(claims=CLAIMS | {name: value})) == "TOKEN_INVALID"


def test_users_must_have_proved_a_factor_recently() -> None:
    def require(auth_time: int | None, scopes: tuple[str, ...] | None = None, act: Actor | None = None) -> None:
        claims = Claims(UUID, UUID, UUID, NOW, NOW + 300, roles=(), scopes=scopes, auth_time=auth_time, act=act)
        claims.require_fresh(600, NOW)

    require(NOW)
    require(NOW - 605)
    scope, service = ("tasks.read",), Actor(UUID)
    require(None, scope)
    require(NOW - 605, scope, service)
    refused = [(NOW - 606, None, None), (NOW - 606, scope, None), (None, None, None)]
    for auth_time, scopes, act in [*refused, (NOW - 606, scope, service), (None, scope, service)]:
        with pytest.raises(TaskeyError) as raised:
            require(auth_time, scopes, act)
        assert raised.value.reason == "STEP_UP_REQUIRED"
        assert raised.value.metadata == {"required": "reauthentication", "max_age": "600"}
