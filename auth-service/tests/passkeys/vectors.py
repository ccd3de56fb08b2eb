#!/usr/bin/env python3
"""Writes vectors.json: responses of authenticators, valid and invalid ones, on which the tests check the verifier of passkeys.

The responses are built and encoded by PyPI fido2, whose server must accept each valid response and refuse each invalid one,
except those that only the verifier of Taskey refuses. Each run creates new keys.

Usage: pip install fido2==2.2.1 && python3 vectors.py > vectors.json
"""

import copy
import hashlib
import json
import sys

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from fido2 import cbor
from fido2.cose import ES256, RS256, EdDSA
from fido2.server import Fido2Server
from fido2.utils import websafe_decode, websafe_encode
from fido2.webauthn import (
    Aaguid,
    AttestationObject,
    AttestedCredentialData,
    AuthenticatorData,
    CollectedClientData,
    PublicKeyCredentialRpEntity,
)

RP_ID = "tasks.example.org"
ORIGIN = "https://tasks.example.org"
CHALLENGE = hashlib.sha256(b"challenge").digest()
USER_HANDLE = hashlib.sha256(b"user").digest()
OTHER_USER_HANDLE = hashlib.sha256(b"other user").digest()
AAGUID = Aaguid(bytes(range(16)))

PRESENT, VERIFIED, ELIGIBLE, BACKED_UP = 0x01, 0x04, 0x08, 0x10
CREDENTIAL, EXTENSIONS = 0x40, 0x80

server = Fido2Server(PublicKeyCredentialRpEntity(id=RP_ID, name="Taskey"))
state = {"challenge": websafe_encode(CHALLENGE), "user_verification": None}


class Authenticator:
    """A credential with its private key."""

    def __init__(self, algorithm):
        self.algorithm = algorithm
        self.id = hashlib.sha256(algorithm.encode()).digest()
        if algorithm == "ES256":
            self.key = ec.generate_private_key(ec.SECP256R1())
            self.public_key = ES256.from_cryptography_key(self.key.public_key())
        elif algorithm == "EdDSA":
            self.key = ed25519.Ed25519PrivateKey.generate()
            self.public_key = EdDSA.from_cryptography_key(self.key.public_key())
        else:
            self.key = rsa.generate_private_key(65537, 2048)
            self.public_key = RS256.from_cryptography_key(self.key.public_key())

    def sign(self, data):
        if self.algorithm == "ES256":
            return self.key.sign(data, ec.ECDSA(hashes.SHA256()))
        if self.algorithm == "EdDSA":
            return self.key.sign(data)
        return self.key.sign(data, padding.PKCS1v15(), hashes.SHA256())

    def credential_data(self):
        return AttestedCredentialData.create(AAGUID, self.id, self.public_key)


def client_data(kind, challenge=CHALLENGE, origin=ORIGIN, **members):
    data = {"type": kind, "challenge": websafe_encode(challenge), "origin": origin, "crossOrigin": False, **members}
    return CollectedClientData(json.dumps(data).encode())


def registration(
    authenticator, flags=PRESENT | VERIFIED, rp_id=RP_ID, fmt="none", extensions=None, transports=(), id=None, **client
):
    client.setdefault("kind", "webauthn.create")
    data = client_data(**client)
    flags |= CREDENTIAL | (EXTENSIONS if extensions else 0)
    rp_id_hash = hashlib.sha256(rp_id.encode()).digest()
    auth_data = AuthenticatorData.create(rp_id_hash, flags, 0, authenticator.credential_data(), extensions)
    statement = {}
    if fmt == "packed":
        statement = {"alg": authenticator.public_key.ALGORITHM, "sig": authenticator.sign(auth_data + data.hash)}
    response = {
        "clientDataJSON": websafe_encode(data),
        "attestationObject": websafe_encode(AttestationObject.create(fmt, auth_data, statement)),
        "transports": list(transports),
    }
    return credential(id or authenticator.id, response)


def assertion(
    authenticator, flags=PRESENT | VERIFIED, rp_id=RP_ID, counter=0, user_handle=USER_HANDLE, id=None, **client
):
    client.setdefault("kind", "webauthn.get")
    data = client_data(**client)
    auth_data = AuthenticatorData.create(hashlib.sha256(rp_id.encode()).digest(), flags, counter)
    response = {
        "clientDataJSON": websafe_encode(data),
        "authenticatorData": websafe_encode(auth_data),
        "signature": websafe_encode(authenticator.sign(auth_data + data.hash)),
        "userHandle": websafe_encode(user_handle) if user_handle else None,
    }
    return credential(id or authenticator.id, response)


def credential(id, response):
    return {
        "id": websafe_encode(id),
        "rawId": websafe_encode(id),
        "type": "public-key",
        "authenticatorAttachment": "platform",
        "clientExtensionResults": {},
        "response": response,
    }


def with_other(response, member, change):
    """Returns the response with the bytes of a member changed."""
    response = copy.deepcopy(response)
    members = response["response"]
    members[member] = websafe_encode(change(bytearray(websafe_decode(members[member]))))
    return response


def flip(index):
    def change(data):
        data[index] ^= 1
        return bytes(data)

    return change


def is_accepted(check, *arguments):
    try:
        check(*arguments)
        return True
    except Exception:
        return False


vectors = {
    "library": "fido2 2.2.1",
    "origin": ORIGIN,
    "challenge": websafe_encode(CHALLENGE),
    "user_handle": websafe_encode(USER_HANDLE),
    "registrations": [],
    "assertions": [],
}


def add_registration(name, response, rejection=None, only_here=False, **expected):
    accepted = is_accepted(server.register_complete, state, response)
    if accepted != (rejection is None or only_here):
        sys.exit(f"fido2 disagrees about the registration: {name}")
    vectors["registrations"].append({"name": name, "rejection": rejection, "response": response, **expected})


def add_assertion(name, authenticator, response, rejection=None, only_here=False, stored_counter=0, **expected):
    credentials = [authenticator.credential_data()]
    accepted = is_accepted(server.authenticate_complete, state, credentials, response)
    if accepted != (rejection is None or only_here):
        sys.exit(f"fido2 disagrees about the assertion: {name}")
    vectors["assertions"].append(
        {
            "name": name,
            "rejection": rejection,
            "credential_id": websafe_encode(authenticator.id),
            "public_key": websafe_encode(cbor.encode(authenticator.public_key)),
            "stored_counter": stored_counter,
            "response": response,
            **expected,
        }
    )


es256, eddsa, rs256 = authenticators = [Authenticator(name) for name in ("ES256", "EdDSA", "RS256")]

for authenticator in authenticators:
    name = authenticator.algorithm
    add_registration(f"{name} without attestation", registration(authenticator), algorithm=name)
    add_registration(f"{name} with self attestation", registration(authenticator, fmt="packed"), algorithm=name)
    add_assertion(f"{name} with user verification", authenticator, assertion(authenticator), user_verified=True)
    add_assertion(
        f"{name} with a wrong signature",
        authenticator,
        with_other(assertion(authenticator), "signature", flip(-1)),
        "WrongSignature",
    )
    add_assertion(
        f"{name} with other signed data",
        authenticator,
        with_other(assertion(authenticator), "authenticatorData", flip(-1)),
        "WrongSignature",
    )

add_registration(
    "synchronized, with extensions and transports",
    registration(
        es256,
        flags=PRESENT | ELIGIBLE | BACKED_UP,
        extensions={"credProtect": 2},
        transports=["internal", "hybrid", "new"],
    ),
    algorithm="ES256",
    backed_up=True,
    user_verified=False,
    transports="hybrid internal",
)
add_registration("a login", registration(es256, kind="webauthn.get"), "WrongType")
add_registration("another challenge", registration(es256, challenge=bytes(32)), "WrongChallenge")
add_registration("another origin", registration(es256, origin="https://example.com"), "WrongOrigin")
add_registration("a subdomain", registration(es256, origin="https://a.tasks.example.org"), "WrongOrigin", only_here=True)
add_registration("another port", registration(es256, origin="https://tasks.example.org:8443"), "WrongOrigin", only_here=True)
add_registration("an embedded page", registration(es256, crossOrigin=True), "CrossOrigin", only_here=True)
add_registration("another site", registration(es256, rp_id="example.com"), "WrongRelyingParty")
add_registration("no user", registration(es256, flags=0), "UserNotPresent")
add_registration("another id", registration(es256, id=bytes(32)), "WrongCredential", only_here=True)
add_registration(
    "a backup without eligibility", registration(es256, flags=PRESENT | BACKED_UP), "Malformed", only_here=True
)
add_registration(
    "a changed self attestation",
    with_other(registration(es256, fmt="packed"), "attestationObject", lambda data: data.replace(AAGUID, bytes(16))),
    "WrongSignature",
    only_here=True,
)
add_registration(
    "a truncated attestation object",
    with_other(registration(es256), "attestationObject", lambda data: bytes(data[:-1])),
    "Malformed",
    only_here=True,
)
add_registration(
    "bytes after the attestation object",
    with_other(registration(es256), "attestationObject", lambda data: bytes(data) + b"\0"),
    "Malformed",
)

add_assertion(
    "without user verification",
    es256,
    assertion(es256, flags=PRESENT, user_handle=None),
    is_second_factor=True,
    user_verified=False,
)
add_assertion("backup state", es256, assertion(es256, flags=PRESENT | VERIFIED | ELIGIBLE | BACKED_UP), backed_up=True)
add_assertion("a counter", es256, assertion(es256, counter=8), stored_counter=7, counter="Consistent")
add_assertion("a counter that stopped", es256, assertion(es256), stored_counter=7, counter="Stopped")
add_assertion("a counter that went back", es256, assertion(es256, counter=7), stored_counter=7, counter="WentBack")
add_assertion("a registration", es256, assertion(es256, kind="webauthn.create"), "WrongType")
add_assertion("another challenge", es256, assertion(es256, challenge=bytes(32)), "WrongChallenge")
add_assertion("another origin", es256, assertion(es256, origin="https://example.com"), "WrongOrigin")
add_assertion("an embedded page", es256, assertion(es256, crossOrigin=True), "CrossOrigin", only_here=True)
add_assertion("another site", es256, assertion(es256, rp_id="example.com"), "WrongRelyingParty")
add_assertion("no user", es256, assertion(es256, flags=VERIFIED), "UserNotPresent")
add_assertion("another user", es256, assertion(es256, user_handle=OTHER_USER_HANDLE), "WrongCredential", only_here=True)
add_assertion("no user handle", es256, assertion(es256, user_handle=None), "WrongCredential", only_here=True)
add_assertion("another credential", es256, assertion(eddsa), "WrongCredential")
add_assertion("no verification", es256, assertion(es256, flags=PRESENT), "UserNotVerified", only_here=True)
add_assertion("the key of another credential", es256, assertion(eddsa, id=es256.id), "WrongSignature")
add_assertion(
    "truncated data",
    es256,
    with_other(assertion(es256), "authenticatorData", lambda data: bytes(data[:-1])),
    "Malformed",
)

json.dump(vectors, sys.stdout, indent=1)
print()
