-- Accounts and their sessions. The text runs on SQLite and on PostgreSQL alike: uuid, text, bigint and boolean only,
-- and instants are microseconds since the Unix epoch.

create table users (
    id uuid primary key,
    -- In its canonical form, so that one address has one account.
    email text not null unique,
    display_name text not null,
    -- argon2id in the PHC string format.
    password_hash text not null,
    email_verified boolean not null,
    -- Separated by spaces.
    roles text not null,
    disabled boolean not null,
    created_at bigint not null,
    updated_at bigint not null
);

create table sessions (
    id uuid primary key,
    user_id uuid not null references users (id),
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

create index sessions_by_user on sessions (user_id, id);
create index sessions_by_end on sessions (expires_at);
create index sessions_by_revocation on sessions (revocation, id) where revocation is not null;

-- One row, which every revocation counts up before it commits. The places in the feed are therefore in the order of
-- the commits and without gaps, and a reader that asks for those after the last place it knows misses none.
create table feed (
    id bigint primary key check (id = 1),
    last_revocation bigint not null
);

insert into feed (id, last_revocation) values (1, 0);
