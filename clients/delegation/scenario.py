"""Tests that a service in Go and a service in Python act for a user, until the user logs out."""

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc

from taskey import TaskeyError
from taskey.task.v1 import task_service_pb2

URL, DATA = os.environ["TASKEY_URL"], Path(os.environ["TASKEY_DATA"])
PASSWORD = "correct horse battery staple"
EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"
ROUNDS = 10
LIMIT = 1.0
"""How long a token may be accepted after the logout, in seconds."""

Answer = tuple[int, dict[str, Any]]


def http(method: str, url: str, token: str | None = None, body: Any = None, form: Any = None) -> Answer:
    headers = {"authorization": f"Bearer {token}"} if token else {}
    data = None
    if body is not None:
        data, headers["content-type"] = json.dumps(body).encode(), "application/json"
    if form is not None:
        data, headers["content-type"] = urllib.parse.urlencode(form).encode(), "application/x-www-form-urlencoded"
    request = urllib.request.Request(url, data, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def succeed(answer: Answer) -> dict[str, Any]:
    assert answer[0] == 200, answer
    return answer[1]


def reason(answer: Answer) -> str:
    """Returns the status and the reason of an error, such as `401 TOKEN_REVOKED`."""
    return f"{answer[0]} {next(detail['reason'] for detail in answer[1]['error']['details'] if 'reason' in detail)}"


def log_in(email: str) -> dict[str, Any]:
    return succeed(http("POST", f"{URL}/v1/auth/login", body={"email": email, "password": PASSWORD}))


def sign_up() -> str:
    email = f"{uuid.uuid4()}@example.org"
    succeed(http("POST", f"{URL}/v1/auth/signup", body={"email": email, "password": PASSWORD}))
    return email


def create_service_account() -> dict[str, Any]:
    admin = sign_up()
    command = [os.environ["AUTH_SERVICE_PROGRAM"], "users", "set-role", admin, "admin"]
    subprocess.run([*command, "--database-url", f"sqlite:{DATA}/auth.db"], check=True)
    body = {"label": "Go", "scopes": ["tasks.read", "tasks.write", "clients.forward"]}
    return succeed(http("POST", f"{URL}/v1/admin/serviceAccounts", log_in(admin)["accessToken"], body))


def start(arguments: list[str], variables: dict[str, str]) -> tuple[subprocess.Popen[str], str]:
    """Starts a service, and returns its address."""
    program = subprocess.Popen(arguments, env=os.environ | variables, stdout=subprocess.PIPE, text=True)
    assert program.stdout
    address = program.stdout.readline().strip()
    assert address, f"{arguments[0]} has not started"
    return program, address


def seconds_until(expected: str, call: Callable[[], str], limit: float = LIMIT) -> float:
    """Calls until the answer is the expected one, and returns how long that took."""
    started = time.monotonic()
    while (answer := call()) != expected:
        assert time.monotonic() - started < limit, f"after {limit} s: {answer}"
    return time.monotonic() - started


class Services:
    """The two services, and the service account of the one in Go."""

    def __init__(self, account: dict[str, Any], go: str, python: str) -> None:
        self.account, self.go = account, f"http://{go}"
        self.reports = grpc.insecure_channel(python).unary_unary(
            "/example.v1.Reports/List",
            task_service_pb2.ListTasksRequest.SerializeToString,
            task_service_pb2.ListTasksResponse.FromString,
        )

    def exchange(self, token: str) -> Answer:
        """Exchanges the token of a user, as the service in Go does."""
        client = {"client_id": self.account["id"], "client_secret": self.account["secret"]}
        subject = {"subject_token": token, "subject_token_type": ACCESS_TOKEN}
        form = {"grant_type": EXCHANGE, "scope": "tasks.read"} | client | subject
        return http("POST", f"{URL}/v1/oauth2/token", form=form)

    def report(self, token: str) -> str:
        """Calls the service in Go. Returns `ok`, or the status and the reason of the error."""
        status, answer = http("GET", f"{self.go}/report", token)
        if status == 502:
            # It could not exchange the token, or the service in Python has refused the call.
            return f"502 {answer['code']} {answer['reason']}"
        return "ok" if status == 200 else reason((status, answer))

    def list(self, token: str) -> str:
        """Calls the service in Python. Returns `ok`, or the code and the reason of the error."""
        try:
            self.reports(
                task_service_pb2.ListTasksRequest(), metadata=[("authorization", f"Bearer {token}")], timeout=10
            )
        except grpc.RpcError as error:
            failure = TaskeyError.from_rpc(error)
            return f"{failure.code.name} {failure.reason}"
        return "ok"


def check_delegation(services: Services) -> None:
    """The services read the tasks of a user, and cannot change them."""
    email = sign_up()
    user = log_in(email)
    token = user["accessToken"]
    succeed(http("POST", f"{URL}/v1/tasks", token, {"title": "Buy milk"}))
    report = succeed(http("GET", f"{services.go}/report", token))
    assert [task["title"] for task in report["response"]["tasks"]] == ["Buy milk"], report
    assert (report["user"], report["actor"]) == (user["user"]["id"], [services.account["id"]]), report
    status, failure = http("POST", f"{services.go}/tasks", token)
    assert status == 502, failure
    expected = ("PermissionDenied", "SCOPE_MISSING", "tasks.write")
    assert (failure["code"], failure["reason"], failure["required"]) == expected, failure
    assert len(succeed(http("GET", f"{URL}/v1/tasks", token))["tasks"]) == 1
    assert reason(http("GET", f"{services.go}/report")) == "401 TOKEN_MISSING"


def measure_logout(services: Services, email: str) -> tuple[float, float]:
    """Returns how long the services in Go and in Python accept the tokens after a logout."""
    user = log_in(email)
    token = user["accessToken"]
    exchanged = succeed(services.exchange(token))["access_token"]
    assert (services.report(token), services.list(exchanged)) == ("ok", "ok")
    succeed(http("POST", f"{URL}/v1/auth/logout", body={"refreshToken": user["refreshToken"]}))
    with ThreadPoolExecutor(2) as threads:
        go = threads.submit(seconds_until, "401 TOKEN_REVOKED", lambda: services.report(token))
        python = threads.submit(seconds_until, "UNAUTHENTICATED TOKEN_REVOKED", lambda: services.list(exchanged))
        durations = go.result(), python.result()
    # The token cannot be exchanged again.
    status, failure = services.exchange(token)
    assert (status, failure["error"]) == (400, "invalid_request"), failure
    return durations


def main() -> None:
    account, folder = create_service_account(), Path(__file__).parent
    key_file, gateway = str(DATA / "keys.json"), URL.removeprefix("http://")
    python, python_address = start([sys.executable, str(folder / "reports.py"), gateway, key_file], {})
    secrets = {"CLIENT_ID": account["id"], "CLIENT_SECRET": account["secret"]}
    go, go_address = start([str(folder / "../go/bin/delegation"), URL, key_file, python_address], secrets)
    try:
        services = Services(account, go_address, python_address)
        email = sign_up()
        token = log_in(email)["accessToken"]
        # Neither accepts a token before it has received the revocations.
        seconds_until("ok", lambda: services.report(token), limit=30)
        check_delegation(services)
        durations = [measure_logout(services, email) for _ in range(ROUNDS)]
    finally:
        for program in (go, python):
            program.terminate()
            program.wait()
    for name, seconds in zip(("Go", "Python"), zip(*durations, strict=True), strict=True):
        print(f"{name}: refused at most {max(seconds) * 1000:.0f} ms after {ROUNDS} logouts")


main()
