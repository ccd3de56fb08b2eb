-- Who did what to which account, from where. Rows are only added, in the transaction of what they record, and removed
-- when they are old; they outlive the account.

create table audit_events (
    id uuid primary key,
    kind text not null,
    user_id uuid not null,
    -- Who did it; null if nobody had shown who they are.
    actor_id uuid,
    session_id uuid,
    ip_address text not null,
    user_agent text not null,
    -- A JSON object of strings.
    details text not null,
    created_at bigint not null,
    -- Failed logins are summed up: one row for an account and a minute since the Unix epoch, and how many they were.
    minute bigint,
    occurrences bigint not null
);

create index audit_events_by_user on audit_events (user_id, id);
create index audit_events_by_age on audit_events (created_at);
create unique index audit_events_by_minute on audit_events (user_id, minute) where minute is not null;
