-- One row. Identifies the history of this database: it changes when a backup is restored, because sequence numbers and
-- revisions are then assigned a second time. The server sets it when it starts first.
create table database_epoch (
    id bigint primary key check (id = 1),
    epoch uuid not null
);

-- How many rows of each kind an owner has, so that a write knows without counting when the oldest must be removed.
-- Tasks, active and deleted:
alter table owners add column task_rows bigint not null default 0;
-- Records of purged tasks:
alter table owners add column tombstones bigint not null default 0;
-- The size of all responses that have been stored so far:
alter table owners add column response_bytes bigint not null default 0;

update owners set
    task_rows = (select count(*) from tasks where tasks.owner_id = owners.owner_id),
    tombstones = (select count(*) from removed_tasks where removed_tasks.owner_id = owners.owner_id);

create index tasks_by_owner_and_purge on tasks (owner_id, purge_time, id) where purge_time is not null;

-- The value of `response_bytes` before the response was stored. The oldest responses of an owner are those with the lowest.
alter table requests add column position bigint not null default 0;

create index requests_by_position on requests (owner_id, position);
