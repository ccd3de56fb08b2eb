"""What both clients do with a server that works."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest
from clients import AnyClient
from conftest import Server
from fake_server import FakeServer, RefusalError

import taskey
from taskey.auth.v1.account_service_pb2 import GetMeRequest
from taskey.auth.v1.admin_service_pb2 import ListUsersRequest
from taskey.task.v1 import task_service_pb2 as tasks
from taskey.task.v1.task_pb2 import Task

UUID = "01890a5d-ac96-774b-bcce-b302099a8057"


def failure(call: Callable[[], object]) -> taskey.TaskeyError:
    """Returns the error of a call that must fail."""
    with pytest.raises(taskey.TaskeyError) as raised:
        call()
    return raised.value


def test_story_from_sign_up_to_refused_token(server: Server, new_client: type[AnyClient]) -> None:
    with new_client(server.address, server.sign_up()) as client:
        task = client.call("tasks", "CreateTask", tasks.CreateTaskRequest(task=Task(title="Buy milk")))
        completed = client.call("tasks", "CompleteTask", tasks.CompleteTaskRequest(id=task.id))
        assert completed.state == Task.STATE_COMPLETED
        assert [item.id for item in client.list("tasks", "ListTasks", tasks.ListTasksRequest())] == [task.id]
        token = client.access_token()
        assert client.log_out() == 1
    with new_client(server.address, token) as thief:
        error = failure(lambda: thief.call("account", "GetMe", GetMeRequest()))
        assert (error.code, error.reason) == (grpc.StatusCode.UNAUTHENTICATED, "TOKEN_REVOKED")


def test_client_with_a_password_logs_in_again_after_logout(server: Server, new_client: type[AnyClient]) -> None:
    with new_client(server.address, server.sign_up()) as client:
        old = client.access_token()
        client.log_out()
        client.call("account", "GetMe", GetMeRequest())
        assert client.access_token() != old


def test_given_token_can_be_logged_out(server: Server, new_client: type[AnyClient]) -> None:
    with (
        new_client(server.address, server.sign_up()) as client,
        new_client(server.address, client.access_token()) as other,
    ):
        assert other.log_out() == 1
        assert failure(lambda: client.call("account", "GetMe", GetMeRequest())).reason == "TOKEN_REVOKED"


def test_errors_have_reason_violations_and_request_id(server: Server, new_client: type[AnyClient]) -> None:
    with new_client(server.address, server.sign_up()) as client:
        invalid = failure(lambda: client.call("tasks", "CreateTask", tasks.CreateTaskRequest(task=Task())))
        assert (invalid.code, invalid.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "VALIDATION_FAILED")
        assert [violation.field for violation in invalid.violations] == ["task.title"]
        assert invalid.request_id
        assert "VALIDATION_FAILED" in str(invalid)
        missing = failure(lambda: client.call("tasks", "GetTask", tasks.GetTaskRequest(id=UUID)))
        assert (missing.code, missing.reason) == (grpc.StatusCode.NOT_FOUND, "TASK_NOT_FOUND")
        assert missing.retry_after is None
        denied = failure(lambda: client.call("admin", "ListUsers", ListUsersRequest()))
        assert denied.code is grpc.StatusCode.PERMISSION_DENIED


def test_wrong_password_and_missing_token_are_errors(server: Server, new_client: type[AnyClient]) -> None:
    email = server.sign_up().email
    with new_client(server.address, taskey.Password(email, "wrong horse battery staple")) as client:
        for _ in range(2):
            assert failure(client.access_token).reason == "CREDENTIALS_INVALID"
    with new_client(server.address) as guest:
        assert failure(lambda: guest.call("account", "GetMe", GetMeRequest())).reason == "TOKEN_MISSING"


def test_password_is_not_in_the_representation() -> None:
    assert "secret" not in repr(taskey.Password("ann@example.com", "secret"))


def test_iterators_return_all_items_of_all_pages(server: Server, new_client: type[AnyClient]) -> None:
    with new_client(server.address, server.sign_up()) as client:
        create = tasks.CreateTaskRequest(task=Task(title="A task", notes="note " * 100))
        writes = [tasks.BatchWriteTasksRequest.Write(create=create) for _ in range(100)]
        for _ in range(3):
            client.call("tasks", "BatchWriteTasks", tasks.BatchWriteTasksRequest(writes=writes))
        for page_size in (7, 500):
            request = tasks.ListTasksRequest(page_size=page_size)
            items = client.list("tasks", "ListTasks", request)
            assert len({item.id for item in items}) == len(items) == 300
            assert request.page_token == ""


def test_request_of_the_caller_is_not_changed(server: Server, new_client: type[AnyClient]) -> None:
    with new_client(server.address, server.sign_up()) as client:
        request = tasks.CreateTaskRequest(task=Task(title="Buy milk"))
        first, second = (client.call("tasks", "CreateTask", request) for _ in range(2))
        assert first.id != second.id
        request.request_id = UUID
        first, second = (client.call("tasks", "CreateTask", request) for _ in range(2))
        assert first.id == second.id


def test_unknown_enum_values_fields_and_reasons_are_accepted(new_client: type[AnyClient]) -> None:
    with FakeServer() as fake, new_client(fake.address, "token") as client:
        newer = Task(title="scripted").SerializeToString() + b"\x20\x63" + b"\xf8\x7f\x01"
        fake.answer("GetTask", newer, RefusalError(grpc.StatusCode.ABORTED, "SOMETHING_NEW"))
        task = client.call("tasks", "GetTask", tasks.GetTaskRequest(id=UUID))
        assert (task.title, task.state) == ("scripted", 99)
        error = failure(lambda: client.call("tasks", "GetTask", tasks.GetTaskRequest(id=UUID)))
        assert (error.code, error.reason) == (grpc.StatusCode.ABORTED, "SOMETHING_NEW")


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an authority, another one, and certificates of the first for a server and a client."""
    folder = tmp_path_factory.mktemp("certificates")
    commands = """
        key='-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes'
        for ca in ca other; do
          openssl req -x509 $key -days 9 -subj /CN=$ca -keyout $ca.key -out $ca.pem
        done
        for name in server client; do
          openssl req -new $key -subj /CN=$name -keyout $name.key -out $name.csr
          echo 'subjectAltName = DNS:localhost, IP:127.0.0.1' > ext
          openssl x509 -req -in $name.csr -CA ca.pem -CAkey ca.key -days 9 -extfile ext -out $name.pem
        done
        chmod 600 *.key
    """
    subprocess.run(["bash", "-ec", commands], cwd=folder, check=True, capture_output=True)
    return folder


def test_tls_and_mutual_tls(certificates: Path, start: Callable[..., Server], new_client: type[AnyClient]) -> None:
    ca, other = certificates / "ca.pem", certificates / "other.pem"
    files = ["--tls-cert-file", str(certificates / "server.pem"), "--tls-key-file", str(certificates / "server.key")]
    mutual = taskey.TLS(ca, certificates / "client.pem", certificates / "client.key")
    server = start(*files, "--tls-client-ca-file", str(ca))
    credentials = server.sign_up(mutual)
    with new_client(server.address, credentials, tls=mutual) as client:
        client.call("account", "GetMe", GetMeRequest())
    for untrusted in (taskey.TLS(ca), taskey.TLS(other, mutual.cert_file, mutual.key_file), None):
        with new_client(server.address, credentials, tls=untrusted) as client:
            error = failure(lambda client=client: client.call("account", "GetMe", GetMeRequest()))  # type: ignore[misc]
            assert error.code is grpc.StatusCode.UNAVAILABLE
