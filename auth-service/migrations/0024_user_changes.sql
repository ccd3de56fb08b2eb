-- The list of deleted accounts becomes the list of accounts that were deleted, disabled or enabled, with the last change of
-- each, and `last_deletion` its last sequence number. The names stay, because older programs use them. They add
-- deletions only, and keep the earlier row of the account, so the index is not unique.

-- Keeps other programs from adding a deletion meanwhile. They lock this row first, too.
update feed set last_deletion = last_deletion;

-- deleted, disabled or enabled.
alter table deleted_users add column state text not null default 'deleted';

create index deleted_users_by_user on deleted_users (user_id);

insert into deleted_users (place, user_id, state)
select feed.last_deletion + row_number() over (order by users.id), users.id, 'disabled'
from users cross join feed where users.disabled;

update feed set last_deletion = (select coalesce(max(place), 0) from deleted_users)
where last_deletion < (select coalesce(max(place), 0) from deleted_users);

insert into compatible_migrations (version) values (24);
