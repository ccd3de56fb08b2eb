-- Lists are in the change feed of their owner, on the same counter as tasks.

-- The last mutation that changed the list. It is 0 if a program that knows only the migrations before has created the
-- list: the purge adds it to the feed. A deletion by such a program is not in the feed.
alter table task_lists add column change bigint not null default 0;

-- Clients receive the existing lists as changes of a new mutation, with the sync tokens that they already have.
update owners set last_change = last_change + 1;
update task_lists set change = (select last_change from owners where owners.owner_id = task_lists.owner_id);

create index task_lists_by_change on task_lists (owner_id, change, id);
create index task_lists_without_change on task_lists (owner_id, id) where change = 0;

-- Whether the tombstone is that of a list.
alter table removed_tasks add column is_list boolean not null default false;

insert into compatible_migrations (version) values (8);
