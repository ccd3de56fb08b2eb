-- SQLite writes a row as a whole, so deleting or moving a task with thousands of subtasks would write all of their notes
-- again. It therefore has the long texts of tasks in a table of their own. PostgreSQL stores long values outside of the
-- row by itself.
/* sqlite: 
create table task_texts (
    owner_id uuid not null,
    id uuid not null,
    notes text not null,
    search text not null,
    primary key (owner_id, id),
    foreign key (owner_id, id) references tasks (owner_id, id) on delete cascade
) without rowid;
insert into task_texts (owner_id, id, notes, search) select owner_id, id, notes, search from tasks;
create index task_texts_without_search on task_texts (owner_id, id) where search = '';
drop index tasks_without_search;
alter table tasks drop column notes;
alter table tasks drop column search;
 */
