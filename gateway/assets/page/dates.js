// Formats days and times for display.

const DAY_MS = 86_400_000;

/** Returns the day of an instant in the local time zone, as 2026-11-30. */
export function dayOf(instant) {
  const [year, month, day] = [instant.getFullYear(), instant.getMonth() + 1, instant.getDate()];
  return [String(year).padStart(4, "0"), ...[month, day].map((part) => String(part).padStart(2, "0"))].join("-");
}

/** Calls `onChange` when another day has begun. Timers stop while the device sleeps, so it also checks when the page is shown. */
export function watchDay(onChange) {
  let day = dayOf(new Date()), timer;
  const check = () => {
    clearTimeout(timer);
    const now = new Date();
    const midnight = new Date(now.getFullYear(), now.getMonth(), now.getDate() + 1);
    timer = setTimeout(check, midnight - now + 1000);
    if (day === dayOf(now)) return;
    day = dayOf(now);
    onChange();
  };
  document.addEventListener("visibilitychange", check);
  check();
}

/** Returns the time zone of the browser. */
export function timeZone() {
  return Intl.DateTimeFormat().resolvedOptions().timeZone ?? "";
}

/** Returns when a task is due, as text and whether it is late, or `undefined` if it has no due date. */
export function due(task) {
  const day = dueDay(task);
  if (!day) return undefined;
  const today = dayOf(new Date());
  const days = Math.round((Date.parse(day) - Date.parse(today)) / DAY_MS);
  const time = task.dueTime ? new Date(task.dueTime) : undefined;
  const timeText = time ? `, ${time.toLocaleTimeString(undefined, { hour: "numeric", minute: "2-digit" })}` : "";
  return { text: dayText(days, day) + timeText, late: time ? time < new Date() : days < 0 };
}

/** Returns the day on which a task is due in the local time zone, or an empty string. */
export function dueDay(task) {
  return task.dueDate || (task.dueTime ? dayOf(new Date(task.dueTime)) : "");
}

function dayText(days, day) {
  const relative = { "-1": "yesterday", 0: "today", 1: "tomorrow" }[days];
  if (relative) return relative;
  const sameYear = day.slice(0, 4) === dayOf(new Date()).slice(0, 4);
  const options = { weekday: "short", day: "numeric", month: "short", year: sameYear ? undefined : "numeric" };
  return new Date(`${day}T12:00`).toLocaleDateString(undefined, options);
}

/** Formats an instant with its day and time. */
export function formatInstant(time) {
  return new Date(time).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });
}

/** Formats a day, such as 2026-11-30. */
export function formatDay(day) {
  return new Date(`${day}T12:00`).toLocaleDateString(undefined, { dateStyle: "medium" });
}
