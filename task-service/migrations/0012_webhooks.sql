-- Where the changes of the tasks of an owner are sent.
create table webhooks (
    owner_id uuid not null,
    id uuid not null,
    create_time bigint not null,
    update_time bigint not null,
    revision bigint not null,
    -- Set while nothing is sent.
    pause_time bigint,
    -- When a replica may claim the webhook next: at once after a change, later after a failure, and when the lease of the
    -- replica that sends its messages expires. Null if all changes were sent, or if it is paused.
    due_time bigint,
    -- The claim of the replica that sends its messages.
    lease uuid,
    -- The mutation up to which all changes were sent, and the sync token of the position.
    position bigint not null,
    sync_token text not null,
    -- The sync token of the end of a message that has failed, so that it is sent again with the same changes.
    message_end text,
    -- How often the position was set by the owner, so that messages that are sent again have other ids.
    generation bigint not null,
    -- The number of attempts so far, and of those that have failed since the last success.
    attempts bigint not null,
    failures bigint not null,
    failing_since bigint,
    -- The sealed secrets, and until when the earlier one is used.
    sealed_secret text not null,
    sealed_previous text,
    previous_until bigint,
    url text not null,
    filter text not null,
    primary key (owner_id, id)
) /* sqlite: without rowid */;

create index webhooks_by_due_time on webhooks (due_time) where due_time is not null;

-- The last attempts of each webhook.
create table webhook_attempts (
    owner_id uuid not null,
    webhook_id uuid not null,
    number bigint not null,
    attempt_time bigint not null,
    -- Null without an answer.
    http_status bigint,
    -- In microseconds.
    latency bigint not null,
    message_id text not null,
    error text not null,
    primary key (owner_id, webhook_id, number)
) /* sqlite: without rowid */;

create index webhook_attempts_by_age on webhook_attempts (attempt_time);

insert into compatible_migrations (version) values (12);
