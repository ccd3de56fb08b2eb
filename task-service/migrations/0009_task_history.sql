-- The history of tasks: a row for each field that a mutation has changed in a task. The key has the order of the change feed.
create table task_history (
    owner_id uuid not null,
    -- The sequence number of the mutation.
    change bigint not null,
    task_id uuid not null,
    -- Empty if the mutation has created the task.
    field text not null,
    change_time bigint not null,
    -- Null if the server has changed the task by itself.
    actor_id uuid,
    session_id uuid,
    -- The size of all entries of the owner that were stored before this mutation.
    position bigint not null,
    old_value text not null,
    new_value text not null,
    primary key (owner_id, change, task_id, field)
) /* sqlite: without rowid */;

create index task_history_by_task on task_history (owner_id, task_id, change, field);

-- The size of all entries that have been stored so far.
alter table owners add column history_bytes bigint not null default 0;
-- When the oldest entry may have expired. Null before the first entry.
alter table owners add column history_due bigint;

create index owners_by_history_due on owners (history_due, owner_id) where history_due is not null;

insert into compatible_migrations (version) values (9);
