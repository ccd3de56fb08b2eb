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

-- The labels as they are compared: folded like texts that are searched. Empty if a program that knows only the migrations
-- before has created the task: the purge fills it. If such a program changes labels, filters find those before.
alter table tasks add column label_keys text not null default '';
/* sqlite: 
update tasks set label_keys = lower(labels) where labels <> '';
 */
/* elsewhere: */
update tasks set label_keys = lower(labels collate "C") where labels <> '';
/* :elsewhere */
create index tasks_without_label_keys on tasks (owner_id, id) where label_keys = '' and labels <> '';

-- The purge folds again what is now folded differently: texts with an i with a dot above (U+0307), and labels that
-- are not ASCII.
/* sqlite: 
update task_texts set search = '' where instr(search, 'i' || char(775)) > 0 or exists (
    select id from tasks where tasks.owner_id = task_texts.owner_id and tasks.id = task_texts.id
        and length(cast(tasks.labels as blob)) > length(tasks.labels));
 */
/* elsewhere: */
update tasks set search = '' where strpos(search, 'i' || chr(775)) > 0 or octet_length(labels) > char_length(labels);
/* :elsewhere */

insert into compatible_migrations (version) values (8);
