"""Tests of `taskey.Client`."""

import grpc
import pytest
from conftest import Server

import taskey
from taskey.task.v1.task_pb2 import Task
from taskey.task.v1.task_service_pb2 import CompleteTaskRequest, CreateTaskRequest, GetTaskRequest, ListTasksRequest


def test_story_from_sign_up_to_refused_token(server: Server) -> None:
    with taskey.Client(server.address, server.sign_up(), tls=None) as client:
        task = client.tasks.CreateTask(CreateTaskRequest(task=Task(title="Buy milk")))
        assert client.tasks.CompleteTask(CompleteTaskRequest(id=task.id)).state == Task.STATE_COMPLETED
        assert [listed.id for listed in client.list_all(client.tasks.ListTasks, ListTasksRequest())] == [task.id]
        token = client.access_token()
        assert client.log_out(wait_for_verifiers=True) == 1
        with taskey.Client(server.address, token, tls=None) as other, pytest.raises(taskey.TaskeyError) as raised:
            other.tasks.GetTask(GetTaskRequest(id=task.id))
    assert (raised.value.code, raised.value.reason) == (grpc.StatusCode.UNAUTHENTICATED, "TOKEN_REVOKED")
