-- Accounts can be deleted. Their sessions outlive them, since the feed names ended sessions for as long as a token of
-- theirs may be good: the reference to the account has to go, for which SQLite needs a new table. The old one is renamed
-- first: on PostgreSQL that keeps everybody else from it, so that no session is revoked between the copy and the end of
-- the old table.

alter table sessions rename to sessions_of_users;

create table sessions (
    id uuid primary key,
    -- The account may have been deleted meanwhile.
    user_id uuid not null,
    -- This and the next two are emptied when the account is deleted.
    label text not null,
    user_agent text not null,
    ip_address text not null,
    -- The number of the one refresh token that is good.
    generation bigint not null,
    created_at bigint not null,
    -- When the last two rotations happened: they tell a late retry from theft.
    rotated_at bigint not null,
    previous_rotated_at bigint not null,
    -- When it ends unless it is refreshed before.
    expires_at bigint not null,
    -- When it ends at the latest.
    ends_at bigint not null,
    revoked_at bigint,
    -- Whether it was revoked because a refresh token came a second time.
    reused boolean not null,
    -- Its place in the feed of revocations, once it is revoked.
    revocation bigint
);

insert into sessions (id, user_id, label, user_agent, ip_address, generation, created_at, rotated_at,
    previous_rotated_at, expires_at, ends_at, revoked_at, reused, revocation)
select id, user_id, label, user_agent, ip_address, generation, created_at, rotated_at,
    previous_rotated_at, expires_at, ends_at, revoked_at, reused, revocation
from sessions_of_users;

drop table sessions_of_users;

create index sessions_by_user on sessions (user_id, id);
create index sessions_by_end on sessions (expires_at);
create index sessions_by_revocation on sessions (revocation, id) where revocation is not null;

-- Which accounts have been deleted, for the services that keep something of them. The list is kept for good: a service
-- that was down, or whose database was restored from a backup, makes up for what it has missed, however long ago. A row
-- is 24 bytes, and tells nothing of a person.
create table deleted_users (
    -- Taken like the places of revocations: in the order of the commits and without gaps.
    place bigint primary key,
    user_id uuid not null
);

-- How many accounts have been deleted.
alter table feed add column last_deletion bigint not null default 0;
