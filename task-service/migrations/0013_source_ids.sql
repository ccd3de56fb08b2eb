-- Identifies an imported task in the file or the product from which it comes, so that it is imported once. The index has only
-- the imported tasks.
alter table tasks add column source_id text;
create unique index tasks_by_source on tasks (owner_id, source_id) where source_id is not null;
-- Older programs create tasks without it.
insert into compatible_migrations (version) values (13);
