"""Does what everybody does, with a client that was generated from /openapi.json: sign up, log in, keep tasks, log out.

Usage: scenario.py URL
"""

import sys
import uuid

from taskey_client import AuthenticatedClient, Client
from taskey_client.api.account_service import account_service_get_me
from taskey_client.api.auth_service import auth_service_login, auth_service_logout, auth_service_sign_up
from taskey_client.api.task_service import (
    task_service_complete_task,
    task_service_create_task,
    task_service_delete_task,
    task_service_list_tasks,
    task_service_update_task,
)
from taskey_client.models import (
    CompleteTaskBody,
    Error,
    LoginRequest,
    LogoutRequest,
    SignUpRequest,
    TaskInput,
    TaskPriority,
    TaskState,
    TaskUpdate,
)

EMAIL, PASSWORD = "generated@example.com", "correct horse battery staple"


def reason(answer):
    """The reason of a refusal."""
    assert isinstance(answer.parsed, Error), answer
    return next(detail.reason.value for detail in answer.parsed.error.details if hasattr(detail, "reason"))


def main(url):
    anyone = Client(base_url=url)
    user = auth_service_sign_up.sync(client=anyone, body=SignUpRequest(email=EMAIL, password=PASSWORD))
    again = auth_service_sign_up.sync_detailed(client=anyone, body=SignUpRequest(email=EMAIL, password=PASSWORD))
    assert (again.status_code, reason(again)) == (409, "EMAIL_TAKEN"), again
    wrong = auth_service_login.sync_detailed(client=anyone, body=LoginRequest(email=EMAIL, password="not this one at all"))
    assert (wrong.status_code, reason(wrong)) == (401, "CREDENTIALS_INVALID"), wrong

    tokens = auth_service_login.sync(client=anyone, body=LoginRequest(email=EMAIL, password=PASSWORD))
    ann = AuthenticatedClient(base_url=url, token=tokens.access_token)
    assert account_service_get_me.sync(client=ann).id == user.id

    key, milk = str(uuid.uuid4()), TaskInput(title="Buy milk", priority=TaskPriority.PRIORITY_HIGH, due_date="2030-05-01")
    first, second = (task_service_create_task.sync_detailed(client=ann, body=milk, idempotency_key=key) for _ in range(2))
    assert first.parsed == second.parsed and second.headers["idempotent-replayed"] == "true", second
    task = first.parsed
    changed = task_service_update_task.sync(task.id, client=ann, body=TaskUpdate(notes="Two litres"), if_match=task.etag)
    assert (changed.title, changed.notes, changed.due_date) == ("Buy milk", "Two litres", "2030-05-01"), changed
    late = task_service_update_task.sync_detailed(task.id, client=ann, body=TaskUpdate(notes=""), if_match=task.etag)
    assert (late.status_code, reason(late)) == (412, "ETAG_MISMATCH"), late
    done = task_service_complete_task.sync(task.id, client=ann, body=CompleteTaskBody())
    assert done.state == TaskState.STATE_COMPLETED, done
    listed = task_service_list_tasks.sync(client=ann, filter_="litres AND state = COMPLETED")
    assert [one.id for one in listed.tasks] == [task.id], listed
    task_service_delete_task.sync(task.id, client=ann)
    assert task_service_list_tasks.sync(client=ann).tasks == []

    auth_service_logout.sync(client=ann, body=LogoutRequest(wait_for_verifiers=True))
    refused = task_service_list_tasks.sync_detailed(client=ann)
    assert (refused.status_code, reason(refused)) == (401, "TOKEN_REVOKED"), refused


if __name__ == "__main__":
    main(sys.argv[1])
