// The history of a task: who changed which field, when, and from which value to which.
import { call } from "./api.js";
import { formatDay, formatInstant } from "./dates.js";
import { fromTemplate, showDialog } from "./dom.js";
import { entry, readableName } from "./layout.js";
import { pagedList } from "./paging.js";
import { recurrenceInWords } from "./recurrence.js";
import { reminderText } from "./reminders.js";
import { store } from "./store.js";

/** What a change is called if both values do not matter, by field and whether the new value is set. */
const EVENTS = {
  "": ["Created", "Created"],
  rank: ["Moved within its list", "Moved within its list"],
  complete_time: ["Reopened", "Completed"],
  delete_time: ["Restored", "Deleted"],
  series_id: ["Left its series of tasks", "Began a series of tasks"],
  next_task_id: ["Next task of the series removed", "Next task of the series created"],
};

const NAMES = {
  due_date: "Due date", due_time: "Due time", list_id: "List", parent_id: "Parent task", occurrence_date: "Date in the series",
};

/** Converts values that are set to text, or to a promise of it. Those of all other fields are texts of the user. */
const FORMATS = {
  priority: (value) => readableName(value, "PRIORITY_"),
  due_date: formatDay,
  due_time: formatInstant,
  time_zone: (value) => value,
  labels: (value) => formatJson(value, (labels) => labels.map((label) => `#${label}`).join(" ")),
  occurrence_date: formatDay,
  recurrence: (value) => formatJson(value, async (recurrence) => quote(await ruleInWords(recurrence))),
  reminders: (value) => formatJson(value, (reminders) => reminders.map(formatReminder).join(", ")),
  list_id: (id) => quote(store.list(id)?.title ?? "deleted list"),
  parent_id: (id) => quote(store.task(id)?.title ?? "deleted task"),
};

/** Shows the history of a task in a dialog. */
export function showHistory(task) {
  const parts = fromTemplate("history-dialog");
  parts.heading.textContent = `History of “${task.title}”`;
  const devices = new Map();
  const list = pagedList({
    label: "Changes, newest first",
    path: `/v1/tasks/${task.id}/history`,
    field: "entries",
    emptyText: "The changes of this task are no longer stored.",
    toItem: (change) => changeItem(change, task.ownerId, devices),
  });
  parts.changes.append(list.root);
  showDialog(parts);
  loadDevices(devices).then(() => list.load());
}

/** Adds the names of the devices that are logged in, by session. Without them, the history says less. */
async function loadDevices(devices) {
  try {
    const { sessions } = await call("GET", "/v1/me/sessions");
    for (const { id, label, current } of sessions) devices.set(id, current ? "this device" : label);
  } catch {
    // An ended session is noticed by the next request.
  }
}

async function changeItem({ changeTime, actorId, sessionId, field, oldValue, newValue }, ownerId, devices) {
  const actor = actorId === ownerId ? "you" : actorId ? "a service on your behalf" : "Taskey";
  const device = actorId === ownerId ? devices.get(sessionId) : "";
  return entry({
    title: await sentence(field, oldValue, newValue),
    details: [[formatInstant(changeTime), actor, device].filter(Boolean).join(" · ")],
  });
}

/** Returns a change as a sentence. Newer servers have further fields. */
async function sentence(field, oldValue, newValue) {
  const event = EVENTS[field]?.[newValue ? 1 : 0];
  if (event) return event;
  const name = NAMES[field] ?? readableName(field);
  const [before, after] = await Promise.all([oldValue, newValue].map((value) => value && (FORMATS[field] ?? quote)(value)));
  if (!before) return `${name} set to ${after}`;
  return after ? `${name} changed from ${before} to ${after}` : `${name} removed; it was ${before}`;
}

function quote(text) {
  return `“${text}”`;
}

/** Returns a recurrence in words, or its rule while the server cannot be reached. */
function ruleInWords(recurrence) {
  return recurrenceInWords(recurrence).catch(() => recurrence.rrule);
}

function formatReminder(reminder) {
  return quote(reminderText(reminder)) + (reminder.acknowledgeTime ? " (dismissed)" : "");
}

/** Formats a value that is JSON. A long value is cut, and then no JSON. */
async function formatJson(value, format) {
  try {
    return await format(JSON.parse(value));
  } catch {
    return value;
  }
}
