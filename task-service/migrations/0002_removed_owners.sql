-- Accounts that have been deleted, until nothing can be left of them. When they are due, what they own is removed: at
-- once, and again when no token of theirs can be good any more; then they are forgotten.
create table removed_owners (
    owner_id uuid primary key,
    -- When it was last heard that the account is gone.
    heard_at bigint not null,
    -- When what it owns is to be removed next.
    due_at bigint not null
);

create index removed_owners_by_due on removed_owners (due_at, owner_id);

-- One row: how far the list of deleted accounts that auth-service keeps has been heard.
create table followed_deletions (
    id bigint primary key check (id = 1),
    place bigint not null
);

insert into followed_deletions (id, place) values (1, 0);
