// The reminders of a task, in its editor.
import { formatInstant } from "./dates.js";
import { element } from "./dom.js";
import { actionButton } from "./layout.js";
import { canAskForNotifications, askForNotifications } from "./notifications.js";

const MAX_REMINDERS = 5;
/** An instant that is selected in the field for it. */
const AT_TIME = "time";

/** Times before the due time, or before the start of the due date. */
const BEFORE_TIME = {
  "0s": "When it is due", "600s": "10 minutes before", "3600s": "1 hour before", "86400s": "1 day before",
};
const BEFORE_DATE = { "-32400s": "On the day at 9:00", "54000s": "The day before at 9:00", "572400s": "A week before at 9:00" };

/** Fills in the reminders of a task. Returns a function that returns the changed ones, or `undefined` if they are the same. */
export function initReminders(form, parts, task) {
  const { reminderList: list, reminderTime, reminderInstant, addReminder, notify, error } = parts;
  const { dueDate } = form.elements;
  const before = JSON.stringify(task.reminders ?? []);
  let reminders = [...(task.reminders ?? [])];
  const options = { ...(task.dueTime ? BEFORE_TIME : BEFORE_DATE), [AT_TIME]: "At a time …" };
  reminderTime.append(...Object.entries(options).map(([value, text]) => element("option", { value }, text)));
  if (!dueDate.value) reminderTime.value = AT_TIME;

  const show = () => {
    list.replaceChildren(...reminders.map((reminder) => {
      const text = reminderText(reminder);
      const remove = () => {
        reminders = reminders.filter((other) => other !== reminder);
        show();
        reminderTime.focus();
      };
      return element("li", {}, element("span", {}, text), actionButton({ label: "Remove", name: `Remove the reminder: ${text}`, run: remove }));
    }));
    reminderInstant.hidden = reminderTime.value !== AT_TIME;
    addReminder.disabled = reminders.length >= MAX_REMINDERS;
    notify.hidden = !reminders.length || !canAskForNotifications();
  };
  const add = () => {
    const isInstant = reminderTime.value === AT_TIME;
    const missing = isInstant ? reminderInstant : dueDate;
    error.textContent = missing.value ? "" : isInstant ? "Enter the time of the reminder." : "Enter a due date first, or select a time.";
    if (!missing.value) return missing.focus();
    reminders.push(isInstant ? { remindTime: new Date(reminderInstant.value).toISOString() } : { beforeDue: reminderTime.value });
    show();
  };
  reminderTime.addEventListener("change", show);
  addReminder.addEventListener("click", add);
  reminderInstant.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.ctrlKey || event.metaKey) return;
    // It would save the task without the reminder.
    event.preventDefault();
    add();
  });
  notify.addEventListener("click", () => askForNotifications().then(show));
  show();
  // Without the state of the reminders, which may have changed in the meantime and which an update cannot change.
  const sent = ({ id, remindTime, beforeDue }) => ({ id, remindTime, beforeDue });
  return () => (JSON.stringify(reminders) === before ? undefined : reminders.map(sent));
}

/** Returns when a reminder fires, as text. */
export function reminderText({ remindTime, beforeDue, snoozeTime }) {
  if (snoozeTime) return `Snoozed until ${formatInstant(snoozeTime)}`;
  if (remindTime) return formatInstant(remindTime);
  return BEFORE_TIME[beforeDue] ?? BEFORE_DATE[beforeDue] ?? beforeText(Number.parseFloat(beforeDue));
}

function beforeText(seconds) {
  const minutes = Math.abs(seconds) / 60;
  const [amount, unit] = minutes % 1440 === 0 ? [minutes / 1440, "day"] : minutes % 60 === 0 ? [minutes / 60, "hour"] : [minutes, "minute"];
  return `${amount} ${unit}${amount === 1 ? "" : "s"} ${seconds < 0 ? "after" : "before"} it is due`;
}
