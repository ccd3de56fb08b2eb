-- Lists, parts, labels, order and changes. The key starts with the owner throughout, so that every table can be
-- distributed by owner. SQLite keeps the rows in the order of the key, an owner's side by side; what is long comes last in
-- a row, so that the rest is read without it.

-- One row for an owner, who has none before the first write. Every act of an owner counts it up before all else, so that
-- no two acts of one owner are under way at once, and changes are in the order of the commits.
create table owners (
    owner_id uuid primary key,
    -- The number of the last act.
    last_change bigint not null,
    -- The act up to which it has been forgotten what was removed.
    forgotten bigint not null,
    live_tasks bigint not null,
    live_lists bigint not null
) /* sqlite: without rowid */;

-- The id of the default list is that of its owner.
create table task_lists (
    owner_id uuid not null,
    id uuid not null,
    title text not null,
    create_time bigint not null,
    update_time bigint not null,
    revision bigint not null,
    primary key (owner_id, id)
) /* sqlite: without rowid */;

alter table tasks rename to tasks_without_lists;

create table tasks (
    owner_id uuid not null,
    id uuid not null,
    list_id uuid not null,
    parent_id uuid,
    priority bigint not null,
    due_date text,
    due_time bigint,
    -- The due time, or the end of the due date.
    due_at bigint,
    time_zone text not null,
    create_time bigint not null,
    update_time bigint not null,
    complete_time bigint,
    delete_time bigint,
    purge_time bigint,
    revision bigint not null,
    -- The act that changed it last.
    change bigint not null,
    -- Digits, which every collation sorts alike.
    rank text not null,
    title text not null,
    -- Each between line breaks, of which no label has any.
    labels text not null,
    notes text not null,
    -- Title and notes as they are searched; empty in rows that are from before there was a search.
    search text not null,
    primary key (owner_id, id),
    check (due_date is null or due_time is null),
    check ((delete_time is null) = (purge_time is null))
) /* sqlite: without rowid */;

insert into tasks (owner_id, id, list_id, parent_id, title, notes, priority, due_date, due_time, due_at, time_zone,
    labels, search, rank, create_time, update_time, complete_time, delete_time, purge_time, revision, change)
select owner_id, id, owner_id, null, title, notes, priority, due_date, due_time, due_time, '',
    '', '', '6' || substr(cast(10000000000000 + row_number() over (partition by owner_id order by id) as text), 2) || '0005',
    create_time, update_time, complete_time, delete_time, purge_time, revision,
    row_number() over (partition by owner_id order by id)
from tasks_without_lists;

insert into owners (owner_id, last_change, forgotten, live_tasks, live_lists)
select owner_id, max(change), 0, count(*) - count(delete_time), 1 from tasks group by owner_id;

insert into task_lists (owner_id, id, title, create_time, update_time, revision)
select owner_id, owner_id, 'Tasks', min(create_time), min(create_time), 1 from tasks group by owner_id;

drop table tasks_without_lists;

create index tasks_by_purge on tasks (purge_time) where purge_time is not null;
create index tasks_by_list on tasks (owner_id, list_id, rank, id);
-- As lists are sorted by when tasks are due: those that never are come last.
create index tasks_by_due on tasks (owner_id, coalesce(due_at, 9223372036854775807), id) where delete_time is null;
create index tasks_by_parent on tasks (owner_id, parent_id) where parent_id is not null;
create index tasks_by_change on tasks (owner_id, change, id);
create index tasks_without_search on tasks (owner_id, id) where search = '';

-- Tasks that are gone for good, for those who follow the changes.
create table removed_tasks (
    owner_id uuid not null,
    id uuid not null,
    change bigint not null,
    remove_time bigint not null,
    primary key (owner_id, id)
) /* sqlite: without rowid */;

create index removed_tasks_by_change on removed_tasks (owner_id, change, id);
create index removed_tasks_by_age on removed_tasks (remove_time);

-- Answers to requests that had an id, for as long as they may be retried.
create table requests (
    owner_id uuid not null,
    id uuid not null,
    -- SHA-256 of the request in base64url.
    hash text not null,
    -- The encoded answer in base64url.
    answer text not null,
    create_time bigint not null,
    primary key (owner_id, id)
) /* sqlite: without rowid */;

create index requests_by_age on requests (create_time);
