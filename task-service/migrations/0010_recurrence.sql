-- Recurring tasks. Null if the task does not recur, so that other tasks hardly grow. Otherwise a text: the series (32
-- hexadecimal digits), the number of the occurrence (10 digits), the next task (32 digits, zeros if there is none), and
-- the rule and the rest as JSON.
alter table tasks add column recurrence text;

-- Each occurrence of a series exists at most once, whatever the replicas do. Programs that know only the migrations before
-- complete a task without creating the next occurrence.
create unique index tasks_by_occurrence on tasks (owner_id, substr(recurrence, 1, 42)) where recurrence is not null;

insert into compatible_migrations (version) values (10);
