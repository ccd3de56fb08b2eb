-- Failed logins at addresses without an account. Nobody reads them, and they go within an hour or two; they are written
-- so that such a login costs what it costs where there is an account. The table therefore has the columns and the indexes
-- of audit_events.

create table failures_of_nobody (
    id uuid primary key,
    kind text not null,
    -- The first bits of the SHA-256 of the address.
    user_id uuid not null,
    actor_id uuid,
    session_id uuid,
    ip_address text not null,
    user_agent text not null,
    details text not null,
    created_at bigint not null,
    minute bigint,
    occurrences bigint not null
);

create index failures_of_nobody_by_user on failures_of_nobody (user_id, id);
create index failures_of_nobody_by_age on failures_of_nobody (created_at);
create unique index failures_of_nobody_by_minute on failures_of_nobody (user_id, minute) where minute is not null;
