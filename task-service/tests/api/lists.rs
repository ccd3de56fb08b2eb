//! `TaskListService`.

use std::time::Duration;

use futures::future::join_all;
use prost_types::FieldMask;
use service_kit::{assert_refused, on_each_database, testing::TestDatabase};
use taskey_proto::task::v1::{CreateTaskListRequest, DeleteTaskListRequest, Task, TaskList, UpdateTaskListRequest};
use tonic::Status;

use crate::support::{Service, User, titled, with_revision};

on_each_database!(
    every_user_has_a_default_list,
    the_default_list_cannot_be_deleted,
    create_list_returns_the_complete_list,
    invalid_list_titles_are_refused,
    a_list_is_renamed,
    update_changes_only_fields_in_the_mask,
    outdated_etag_is_refused,
    unknown_list_is_not_found,
    lists_of_another_user_are_not_found,
    lists_are_paged_with_the_newest_first,
    page_tokens_are_bound_to_the_caller_and_the_rpc,
);

const DAY: Duration = Duration::from_secs(24 * 3600);

pub(crate) async fn update(user: &User, list: TaskList, mask: &[&str]) -> Result<TaskList, Status> {
    let paths = mask.iter().map(|path| (*path).to_owned()).collect();
    let update_mask = (!mask.is_empty()).then_some(FieldMask { paths });
    let request = UpdateTaskListRequest { task_list: Some(list), update_mask, ..UpdateTaskListRequest::default() };
    Ok(user.lists.clone().update_task_list(request).await?.into_inner())
}

async fn delete_with_etag(user: &User, id: &str, etag: &str) -> Result<TaskList, Status> {
    let request =
        DeleteTaskListRequest { id: id.to_owned(), etag: etag.to_owned(), ..DeleteTaskListRequest::default() };
    Ok(user.lists.clone().delete_task_list(request).await?.into_inner())
}

/// Returns an update of a list's title.
pub(crate) fn named(list: &TaskList, title: &str) -> TaskList {
    TaskList { id: list.id.clone(), title: title.to_owned(), ..TaskList::default() }
}

async fn all(user: &User, page_size: i32) -> Vec<TaskList> {
    let (mut lists, mut token) = (Vec::new(), String::new());
    loop {
        let page = user.list_lists(page_size, &token).await.expect("a page");
        lists.extend(page.task_lists);
        token = page.next_page_token;
        if token.is_empty() {
            return lists;
        }
    }
}

async fn every_user_has_a_default_list(database: TestDatabase) {
    let service = Service::start(&database).await;
    let [listing, getting, writing, renaming] = [service.user(), service.user(), service.user(), service.user()];
    let etag = service.user().make_list("Errands").await.etag;
    let expected = |user: &User| {
        let (id, now) = (user.id.to_string(), Some(service.clock.now().into()));
        TaskList {
            id: id.clone(),
            title: "Tasks".to_owned(),
            is_default: true,
            owner_id: id,
            create_time: now,
            update_time: now,
            etag: etag.clone(),
        }
    };
    assert_eq!(all(&listing, 0).await, [expected(&listing)]);
    assert_eq!(getting.get_list(&getting.id.to_string()).await.expect("it exists"), expected(&getting));
    let task = writing.make("Buy milk").await;
    assert_eq!(task.list_id, writing.id.to_string());
    assert_eq!(all(&writing, 0).await, [expected(&writing)]);
    let renamed = update(&renaming, named(&expected(&renaming), "Mine"), &[]).await.expect("an update");
    assert_eq!((renamed.is_default, &renamed.title[..]), (true, "Mine"));
    // Concurrent first requests of a user see the same list.
    let user = service.user();
    let lists = join_all((0..10).map(|_| all(&user, 0))).await;
    assert!(lists.into_iter().all(|lists| lists == [expected(&user)]));
}

async fn the_default_list_cannot_be_deleted(database: TestDatabase) {
    let service = Service::start(&database).await;
    let (ann, bob) = (service.user(), service.user());
    let list = ann.make_list("Errands").await;
    for (user, to) in [(&ann, ""), (&ann, &list.id[..]), (&bob, "")] {
        let outcome = user.delete_list(&user.id.to_string(), to).await;
        assert_refused!(outcome, FailedPrecondition, "DEFAULT_LIST");
    }
    assert_eq!(all(&ann, 0).await.len(), 2);
}

async fn create_list_returns_the_complete_list(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let sent = TaskList {
        id: "mine".to_owned(),
        title: " 日本語 ".to_owned(),
        is_default: true,
        owner_id: "\0".to_owned(),
        etag: "\"7\"".to_owned(),
        ..TaskList::default()
    };
    let request = CreateTaskListRequest { task_list: Some(sent.clone()), ..CreateTaskListRequest::default() };
    let created = ann.lists.clone().create_task_list(request).await.expect("the list is created").into_inner();
    let now = Some(service.clock.now().into());
    let expected = TaskList {
        id: created.id.clone(),
        is_default: false,
        owner_id: ann.id.to_string(),
        create_time: now,
        update_time: now,
        etag: with_revision(&created.etag, 1),
        ..sent
    };
    assert_eq!(created, expected);
    assert_eq!(ann.get_list(&created.id).await.expect("it exists"), expected);
}

async fn invalid_list_titles_are_refused(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let list = ann.make_list(&"🥛".repeat(200)).await;
    for title in ["", " ", "\0", "a\nb", "\u{3000}", &"a".repeat(201)] {
        assert_refused!(ann.create_list(title).await, InvalidArgument, "VALIDATION_FAILED", "task_list.title");
        let outcome = update(&ann, named(&list, title), &["title"]).await;
        assert_refused!(outcome, InvalidArgument, "VALIDATION_FAILED", "task_list.title");
    }
    let outcome = ann.lists.clone().create_task_list(CreateTaskListRequest::default()).await;
    assert_refused!(outcome, InvalidArgument, "VALIDATION_FAILED", "task_list");
    assert_eq!(all(&ann, 0).await.len(), 2);
}

async fn a_list_is_renamed(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let list = ann.make_list("Errands").await;
    let task = ann.make_in(&list, "A").await;
    for (round, mask) in [&[][..], &["title"], &["*"], &["title", "*"]].into_iter().enumerate() {
        service.manual_clock.advance(DAY);
        let title = format!("Errands {round}");
        let updated = update(&ann, named(&list, &title), mask).await.expect("an update");
        let (update_time, etag) =
            (Some(service.clock.now().into()), with_revision(&list.etag, u32::try_from(round).expect("few") + 2));
        assert_eq!(updated, TaskList { title, update_time, etag, ..list.clone() });
        assert_eq!(ann.get_list(&list.id).await.expect("it exists"), updated);
    }
    assert_eq!(ann.get(&task.id).await.expect("it exists"), task);
}

async fn update_changes_only_fields_in_the_mask(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let list = ann.make_list("Errands").await;
    for path in ["id", "is_default", "owner_id", "etag", "Title", "task_list.title", "", "\0"] {
        let outcome = update(&ann, named(&list, "Other"), &["title", path]).await;
        assert_refused!(outcome, InvalidArgument, "VALIDATION_FAILED", "update_mask");
    }
    let outcome = update(&ann, TaskList { id: "1".to_owned(), ..named(&list, "\0") }, &["title"]).await;
    assert_refused!(outcome, InvalidArgument, "VALIDATION_FAILED", "task_list.id", "task_list.title");
    let outcome = ann.lists.clone().update_task_list(UpdateTaskListRequest::default()).await;
    assert_refused!(outcome, InvalidArgument, "VALIDATION_FAILED", "task_list");
    // An update of nothing changes nothing.
    assert_eq!(update(&ann, named(&list, ""), &[]).await.expect("nothing to do"), list);
    assert_eq!(ann.get_list(&list.id).await.expect("it exists"), list);
}

async fn outdated_etag_is_refused(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let list = ann.make_list("Errands").await;
    let with_etag = |etag: &str| TaskList { etag: etag.to_owned(), ..named(&list, "Other") };
    let updated = update(&ann, with_etag(&list.etag), &["title"]).await.expect("an update");
    for etag in [&list.etag, "2", "*", "W/\"2\""] {
        assert_refused!(update(&ann, with_etag(etag), &["title"]).await, Aborted, "ETAG_MISMATCH");
        assert_refused!(delete_with_etag(&ann, &list.id, etag).await, Aborted, "ETAG_MISMATCH");
    }
    assert_eq!(delete_with_etag(&ann, &list.id, &updated.etag).await.expect("a deletion"), updated);
}

async fn unknown_list_is_not_found(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let list = ann.make_list("Errands").await;
    ann.delete_list(&list.id, "").await.expect("a deletion");
    let unknown = TaskList { id: service.clock.new_id().to_string(), ..TaskList::default() };
    for missing in [&list, &unknown] {
        assert_refused!(ann.get_list(&missing.id).await, NotFound, "LIST_NOT_FOUND");
        assert_refused!(update(&ann, named(missing, "Other"), &[]).await, NotFound, "LIST_NOT_FOUND");
        assert_refused!(ann.delete_list(&missing.id, "").await, NotFound, "LIST_NOT_FOUND");
        let task = Task { list_id: missing.id.clone(), ..titled("A") };
        assert_refused!(ann.create(task).await, NotFound, "LIST_NOT_FOUND", "task.list_id");
    }
    assert_refused!(ann.get_list("1").await, InvalidArgument, "VALIDATION_FAILED", "id");
    assert_refused!(ann.delete_list("1", "2").await, InvalidArgument, "VALIDATION_FAILED", "id", "move_tasks_to");
}

async fn lists_of_another_user_are_not_found(database: TestDatabase) {
    let service = Service::start(&database).await;
    let (ann, bob) = (service.user(), service.user());
    let (list_of_ann, list_of_bob) = (ann.make_list("Hers").await, bob.make_list("His").await);
    let task = ann.make_in(&list_of_ann, "A").await;
    for id in [&list_of_ann.id, &ann.id.to_string()] {
        assert_refused!(bob.get_list(id).await, NotFound, "LIST_NOT_FOUND");
        let sent = TaskList { id: id.clone(), title: "Mine now".to_owned(), ..TaskList::default() };
        assert_refused!(update(&bob, sent, &[]).await, NotFound, "LIST_NOT_FOUND");
        assert_refused!(bob.delete_list(id, "").await, NotFound, "LIST_NOT_FOUND");
        assert_refused!(bob.delete_list(&list_of_bob.id, id).await, NotFound, "LIST_NOT_FOUND", "move_tasks_to");
    }
    assert_eq!(all(&bob, 0).await.len(), 2);
    assert_eq!(ann.get_list(&list_of_ann.id).await.expect("it exists"), list_of_ann);
    assert_eq!(ann.get(&task.id).await.expect("it exists"), task);
}

async fn lists_are_paged_with_the_newest_first(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let mut expected = vec![ann.get_list(&ann.id.to_string()).await.expect("it exists")];
    for index in 0..7 {
        expected.insert(0, ann.make_list(&index.to_string()).await);
    }
    for page_size in [0, 1, 2, 7, 8, 9, i32::MAX] {
        assert_eq!(all(&ann, page_size).await, expected);
    }
    assert_eq!(ann.list_lists(8, "").await.expect("a page").next_page_token, "");
    assert_refused!(ann.list_lists(-1, "").await, InvalidArgument, "VALIDATION_FAILED", "page_size");
    let first = ann.list_lists(3, "").await.expect("a page");
    ann.delete_list(&expected[2].id, "").await.expect("a deletion");
    ann.make_list("newer").await;
    let second = ann.list_lists(3, &first.next_page_token).await.expect("a page");
    assert_eq!(second.task_lists, expected[3..6]);
}

async fn page_tokens_are_bound_to_the_caller_and_the_rpc(database: TestDatabase) {
    let service = Service::start(&database).await;
    let (ann, bob) = (service.user(), service.user());
    ann.make_list("Errands").await;
    for _ in 0..2 {
        ann.make("A").await;
    }
    let token = ann.list_lists(1, "").await.expect("a page").next_page_token;
    let request = taskey_proto::task::v1::ListTasksRequest { page_size: 1, ..Default::default() };
    let tasks_token = ann.list(request).await.expect("a page").next_page_token;
    for (user, token) in [(&bob, &token[..]), (&ann, &tasks_token), (&ann, "A"), (&ann, &token[1..])] {
        let outcome = user.list_lists(1, token).await;
        assert_refused!(outcome, InvalidArgument, "PAGE_TOKEN_INVALID", "page_token");
    }
    let request = taskey_proto::task::v1::ListTasksRequest { page_token: token, ..Default::default() };
    assert_refused!(ann.list(request).await, InvalidArgument, "PAGE_TOKEN_INVALID", "page_token");
}
