-- Where the rows of an owner lie scattered among those of others, as on PostgreSQL, to look through them takes a fraction of
-- the time in an index that has what they are sorted and mostly filtered by. SQLite has them side by side anyway. Neither the
-- rank nor long texts are in it, since they may be longer than an index can hold.
/* elsewhere: */
alter table tasks add column brief text
    generated always as (case when octet_length(search) between 1 and 400 then search end) stored;

create index tasks_sorted on tasks (owner_id, id)
    include (list_id, priority, due_at, create_time, update_time, complete_time, delete_time, purge_time, title, brief);
create index tasks_not_brief on tasks (owner_id, id) where brief is null;
/* :elsewhere */
