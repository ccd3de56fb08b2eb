// Days and times as people read them.

const DAY = 86_400_000;

/** The day of an instant here, as 2026-11-30. */
export function dayOf(instant) {
  const [year, month, day] = [instant.getFullYear(), instant.getMonth() + 1, instant.getDate()];
  return [String(year).padStart(4, "0"), ...[month, day].map((part) => String(part).padStart(2, "0"))].join("-");
}

/** When a task is due: in words, and whether that has passed. Nothing if it never is. */
export function due(task) {
  const day = dueDay(task);
  if (!day) return undefined;
  const today = dayOf(new Date());
  const days = Math.round((Date.parse(day) - Date.parse(today)) / DAY);
  const time = task.dueTime ? new Date(task.dueTime) : undefined;
  const clock = time ? `, ${time.toLocaleTimeString(undefined, { hour: "numeric", minute: "2-digit" })}` : "";
  return { text: words(days, day) + clock, late: time ? time < new Date() : days < 0 };
}

/** The day on which a task is due here. */
export function dueDay(task) {
  return task.dueDate || (task.dueTime ? dayOf(new Date(task.dueTime)) : "");
}

function words(days, day) {
  const near = { "-1": "yesterday", 0: "today", 1: "tomorrow" }[days];
  if (near) return near;
  const sameYear = day.slice(0, 4) === dayOf(new Date()).slice(0, 4);
  const options = { weekday: "short", day: "numeric", month: "short", year: sameYear ? undefined : "numeric" };
  return new Date(`${day}T12:00`).toLocaleDateString(undefined, options);
}

/** An instant with its day and its time. */
export function instant(time) {
  return new Date(time).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });
}
