// Reminders that have fired: a list above the view, and notifications of the browser if the user permits them.
import { call } from "./api.js";
import { due } from "./dates.js";
import { element, arrange } from "./dom.js";
import { actionButton } from "./layout.js";
import { announce } from "./notice.js";
import { isOpen, store } from "./store.js";

const SNOOZE_MS = 10 * 60_000;

/** Reports whether the browser would ask the user. It has notifications only in secure contexts (TLS or localhost). */
export function canAskForNotifications() {
  return globalThis.Notification?.permission === "default";
}

/** Asks the user to permit notifications. Browsers ignore this unless the user has just pressed a button. */
export function askForNotifications() {
  return Notification.requestPermission();
}

/** Reports whether the user is notified while the page is hidden. */
export function isNotifying() {
  return globalThis.Notification?.permission === "granted" && store.tasks.some((task) => task.reminders?.some(isPending));
}

const isPending = ({ fireTime }) => !fireTime;
const isFired = ({ fireTime, acknowledgeTime }) => Boolean(fireTime) && !acknowledgeTime;

/**
 * Creates the list of the reminders that have fired. It is updated with the tasks. The user is notified only of those that
 * fire after the tasks have been loaded.
 */
export function firedReminders() {
  const list = element("ul", {});
  const root = element("section", { class: "reminders", "aria-label": "Reminders" }, list);
  const known = new Set();
  let items = new Map();

  const update = () => {
    const fired = store.tasks.filter(isOpen).flatMap((task) => (task.reminders ?? []).filter(isFired).map((reminder) => ({ task, reminder })));
    const shown = items;
    items = new Map(fired.map((firing) => [itemKey(firing), shown.get(itemKey(firing)) ?? reminderItem(firing)]));
    for (const firing of fired) {
      const key = firingKey(firing);
      if (store.isLoaded && !known.has(key)) notify(firing, key);
      known.add(key);
    }
    arrange(list, [...items.values()]);
    root.hidden = !fired.length;
  };
  return { root, update };
}

function firingKey({ reminder }) {
  return `${reminder.id} ${reminder.fireTime}`;
}

/** The item of a firing is created again when the title or the due date of its task changes. */
function itemKey(firing) {
  return `${firingKey(firing)} ${reminderText(firing.task)}`;
}

function reminderItem({ task, reminder }) {
  const path = `/v1/tasks/${task.id}/reminders/${reminder.id}`;
  const act = (verb, body, text) => async () => {
    store.put(await call("POST", `${path}:${verb}`, { body: body() }));
    announce(text);
  };
  const snooze = act("snooze", () => ({ remindTime: new Date(Date.now() + SNOOZE_MS).toISOString() }), "You will be reminded in 10 minutes.");
  return element("li", {}, element("span", {}, `Reminder: ${reminderText(task)}`), element("span", { class: "actions" },
    actionButton({ label: "In 10 minutes", name: `Remind me of ${task.title} in 10 minutes`, run: snooze }),
    actionButton({ label: "Dismiss", name: `Dismiss the reminder of ${task.title}`, run: act("acknowledge", () => ({}), "Dismissed.") }),
  ));
}

function reminderText(task) {
  const when = due(task);
  return when ? `${task.title} – due ${when.text}` : task.title;
}

/** Tells the user of a firing. Windows with the same tag replace each other's notification. */
function notify({ task }, tag) {
  announce(`Reminder: ${reminderText(task)}.`);
  if (globalThis.Notification?.permission !== "granted") return;
  try {
    const notification = new Notification(task.title, { body: reminderText(task), tag });
    notification.addEventListener("click", () => focus());
  } catch {
    // Chrome on Android has notifications only for service workers. The list shows the reminder.
  }
}
