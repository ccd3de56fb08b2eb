-- The reminders of a task: a line for each, in the format of the model. They are in the row of the task, so that reading a
-- task needs no other query.
alter table tasks add column reminders text not null default '';
-- When the next reminder fires. Null if all have fired. A program that knows only the migrations before does not change it when
-- it moves a due date: the reminder then fires at its old time, or is scheduled again at that time if the new one is later.
alter table tasks add column next_reminder bigint;

create index tasks_by_reminder on tasks (owner_id, next_reminder)
    where next_reminder is not null and complete_time is null and delete_time is null;

-- The queue: when the first reminder of an owner fires, or an earlier time. Null if there is none. If several replicas find
-- the same owner due, the lock of the row decides which one fires the reminders.
alter table owners add column reminder_due bigint;

create index owners_by_reminder_due on owners (reminder_due, owner_id) where reminder_due is not null;

insert into compatible_migrations (version) values (11);
