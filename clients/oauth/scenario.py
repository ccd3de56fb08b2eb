"""Tests the endpoints of OAuth 2.0 with Authlib: metadata, client credentials, token exchange, devices, refresh and
revocation."""

import os
import subprocess
import uuid

import requests
from authlib.integrations.base_client import OAuthError
from authlib.integrations.requests_client import OAuth2Session
from authlib.oauth2.rfc8414 import AuthorizationServerMetadata

# The gateway of the test serves no TLS.
os.environ["AUTHLIB_INSECURE_TRANSPORT"] = "1"

URL = os.environ["TASKEY_URL"]
PASSWORD = "correct horse battery staple"
EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
DEVICE = "urn:ietf:params:oauth:grant-type:device_code"
ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"


def call(method: str, path: str, token: str | None = None, body: dict | None = None) -> requests.Response:
    headers = {"authorization": f"Bearer {token}"} if token else {}
    return requests.request(method, URL + path, headers=headers, json=body, timeout=10)


def log_in(email: str) -> dict:
    response = call("POST", "/v1/auth/login", body={"email": email, "password": PASSWORD})
    response.raise_for_status()
    return response.json()


def sign_up() -> str:
    email = f"{uuid.uuid4()}@example.org"
    call("POST", "/v1/auth/signup", body={"email": email, "password": PASSWORD}).raise_for_status()
    return email


def make_admin(email: str) -> str:
    """Gives an account the role `admin`, and returns its access token."""
    database = f"sqlite:{os.environ['TASKEY_DATA']}/auth.db"
    program = os.environ["AUTH_SERVICE_PROGRAM"]
    subprocess.run([program, "users", "set-role", email, "admin", "--database-url", database], check=True)
    return log_in(email)["accessToken"]


def error_of(action) -> str:
    """Returns the `error` with which an action fails."""
    try:
        action()
    except OAuthError as error:
        return error.error
    raise AssertionError("the call succeeded")


def connect_device(metadata: dict) -> None:
    """A user allows a device, which has polled before."""
    user = log_in(sign_up())
    form = {"client_id": "Authlib", "scope": "account.read"}
    codes = requests.post(metadata["device_authorization_endpoint"], data=form, timeout=10).json()
    device = OAuth2Session("Authlib", token_endpoint_auth_method="none")

    def poll() -> dict:
        return device.fetch_token(metadata["token_endpoint"], grant_type=DEVICE, device_code=codes["device_code"])

    assert (error_of(poll), error_of(poll)) == ("authorization_pending", "slow_down")
    path = f"/v1/me/deviceAuthorizations/{codes['user_code']}:approve"
    call("POST", path, user["accessToken"], {}).raise_for_status()
    token = poll()
    assert token["scope"] == "account.read", token
    assert device.get(f"{URL}/v1/me", timeout=10).status_code == 200
    assert error_of(poll) == "invalid_grant"


def main() -> None:
    admin = make_admin(sign_up())
    body = {"label": "Authlib", "scopes": ["tasks.read", "tasks.write", "clients.forward"]}
    account = call("POST", "/v1/admin/serviceAccounts", admin, body).json()
    metadata = requests.get(f"{URL}/.well-known/oauth-authorization-server", timeout=10).json()
    assert metadata["issuer"] == URL, metadata
    # Authlib accepts only https URLs.
    secure = {name: str(value).replace("http:", "https:") if isinstance(value, str) else value
              for name, value in metadata.items()}
    # It also expects response types, although there is no authorization endpoint.
    secure["response_types_supported"] = ["none"]
    AuthorizationServerMetadata(secure).validate()

    for method in ["client_secret_basic", "client_secret_post"]:
        session = OAuth2Session(account["id"], account["secret"], token_endpoint_auth_method=method)
        endpoint = metadata["token_endpoint"]
        token = session.fetch_token(endpoint, grant_type="client_credentials", scope="tasks.read tasks.write")
        assert (token["token_type"], token["expires_in"], token["scope"]) == ("Bearer", 300, "tasks.read tasks.write")
        created = session.post(f"{URL}/v1/tasks", json={"title": "Send invoices"}, timeout=10)
        assert created.status_code == 200, created.text
        wider = error_of(lambda: session.fetch_token(endpoint, grant_type="client_credentials", scope="admin.read"))
        assert wider == "invalid_scope", wider
        unknown = error_of(lambda: session.fetch_token(endpoint, grant_type="password", username="x", password="x"))
        assert unknown == "unsupported_grant_type", unknown

        # On behalf of a user, until the user logs out.
        user = log_in(sign_up())
        task = call("POST", "/v1/tasks", user["accessToken"], {"title": "Buy milk"}).json()
        exchanged = session.fetch_token(
            endpoint, grant_type=EXCHANGE, subject_token=user["accessToken"], subject_token_type=ACCESS_TOKEN,
            scope="tasks.read")
        assert exchanged["issued_token_type"] == ACCESS_TOKEN
        read = call("GET", f"/v1/tasks/{task['id']}", exchanged["access_token"])
        assert read.json()["title"] == "Buy milk", read.text
        assert call("DELETE", f"/v1/tasks/{task['id']}", exchanged["access_token"]).status_code == 403
        logout = {"refreshToken": user["refreshToken"], "waitForVerifiers": True}
        call("POST", "/v1/auth/logout", body=logout).raise_for_status()
        refused = call("GET", f"/v1/tasks/{task['id']}", exchanged["access_token"])
        assert refused.status_code == 401, refused.text

        token = session.fetch_token(endpoint, grant_type="client_credentials")
        revoked = session.revoke_token(metadata["revocation_endpoint"], token["access_token"])
        assert revoked.status_code == 200, revoked.text
        wrong = OAuth2Session(account["id"], "wrong", token_endpoint_auth_method=method)
        error = error_of(lambda: wrong.fetch_token(endpoint, grant_type="client_credentials"))
        assert error == "invalid_client", error

    connect_device(metadata)
    pair = log_in(sign_up())
    public = OAuth2Session(None, token_endpoint_auth_method="none")
    refreshed = public.refresh_token(metadata["token_endpoint"], pair["refreshToken"])
    assert call("GET", "/v1/me", refreshed["access_token"]).status_code == 200
    print("Authlib: passed")


main()
