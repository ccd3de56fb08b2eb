-- Owners whose accounts are disabled. Their webhooks send nothing.
create table disabled_owners (
    owner_id uuid primary key
) /* sqlite: without rowid */;

-- One row: the sequence number up to which the changes of accounts were received. It is not that of `followed_deletions`,
-- because older programs skip disabled accounts. The list is therefore read from its beginning once.
create table followed_user_changes (
    id bigint primary key check (id = 1),
    sequence bigint not null
);

insert into followed_user_changes (id, sequence) values (1, 0);

insert into compatible_migrations (version) values (14);
