-- Instants are microseconds since the Unix epoch. The key starts with the owner, so that the table can be distributed
-- by owner; ids are of version 7, so that their order is the order of creation.
create table tasks (
    owner_id uuid not null,
    id uuid not null,
    title text not null,
    notes text not null,
    priority bigint not null,
    due_date text,
    due_time bigint,
    create_time bigint not null,
    update_time bigint not null,
    complete_time bigint,
    delete_time bigint,
    purge_time bigint,
    revision bigint not null,
    primary key (owner_id, id),
    check (due_date is null or due_time is null),
    check ((delete_time is null) = (purge_time is null))
);

create index tasks_by_purge on tasks (purge_time) where purge_time is not null;

-- One row: the key of the page tokens, in base64url, which all replicas share.
create table page_token_key (
    id bigint primary key check (id = 1),
    secret text not null
);
