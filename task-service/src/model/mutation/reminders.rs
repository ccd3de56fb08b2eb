//! Snoozes and acknowledges reminders.

use service_kit::clock::Timestamp;
use uuid::Uuid;

use super::{
    WorkingSet,
    error::{WriteError, invalid_field},
};
use crate::{
    error::{reminder_not_fired, reminder_not_found},
    model::{
        Target,
        reminder::{self, Reminder},
    },
};

impl WorkingSet {
    pub(super) fn snooze(&mut self, target: Target, id: Uuid, time: Timestamp) -> Result<Uuid, WriteError> {
        self.find_reminder(target, id)?;
        if time <= self.context.now {
            return Err(invalid_field("remind_time", "must be in the future"));
        }
        self.change_reminder(target.id, id, |reminder| reminder.snooze(time));
        Ok(target.id)
    }

    pub(super) fn acknowledge(&mut self, target: Target, id: Uuid) -> Result<Uuid, WriteError> {
        let reminder = self.find_reminder(target, id)?;
        if reminder.fire_time.is_none() {
            return Err(reminder_not_fired().into());
        }
        let now = self.context.now;
        if reminder.acknowledge_time.is_none() {
            self.change_reminder(target.id, id, |reminder| reminder.acknowledge_time = Some(now));
        }
        Ok(target.id)
    }

    /// Returns a reminder of an active task, if the etag of the task matches.
    fn find_reminder(&self, target: Target, id: Uuid) -> Result<Reminder, WriteError> {
        let task = self.active_task(target)?;
        let found = reminder::parse(&task.reminders).find(|reminder| reminder.id == id);
        found.ok_or_else(|| reminder_not_found().into())
    }

    fn change_reminder(&mut self, task: Uuid, id: Uuid, change: impl Fn(&mut Reminder)) {
        self.change(task, |task| {
            let mut reminders: Vec<_> = reminder::parse(&task.reminders).collect();
            reminders.iter_mut().filter(|reminder| reminder.id == id).for_each(change);
            task.reminders = reminder::to_stored(&reminders);
        });
    }
}
