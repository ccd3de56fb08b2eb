// How a task recurs, in its editor: fields for usual rules, a field for words and for other rules, and what the rule means.
import { UserError, call, explain } from "./api.js";
import { dayOf, dueDay, formatDay, formatInstant, timeZone } from "./dates.js";
import { element } from "./dom.js";
import { onPress } from "./form.js";
import { ruleOfText } from "./phrases.js";

const WEEKDAYS = ["MO", "TU", "WE", "TH", "FR", "SA", "SU"];
const UNITS = { DAILY: "days", WEEKLY: "weeks", MONTHLY: "months", YEARLY: "years" };
const PREVIEW_DELAY_MS = 250;
const PREVIEW_COUNT = 3;

/**
 * Fills in the recurrence of a task. Returns a function that returns the changed recurrence in the form of the API: `null`
 * if the task no longer recurs, `undefined` if nothing has changed.
 */
export function initRecurrence(form, parts, task) {
  const { elements } = form;
  const initial = parseRule(task.recurrence?.rrule ?? "");
  parts.weekdays.append(...WEEKDAYS.map(weekdayField));
  for (const name of ["frequency", "interval", "rrule"]) elements[name].value = initial[name];
  for (const box of parts.weekdays.querySelectorAll("input")) box.checked = initial.weekdays.includes(box.value);
  const { basis = "BASIS_DUE", catchUp = "CATCH_UP_SKIP" } = task.recurrence ?? {};
  elements.next.value = basis === "BASIS_COMPLETION" ? basis : catchUp;
  fillMonthDays(parts.monthDay, elements.dueDate.value, initial.monthDay);
  const current = () => recurrenceOf(form);
  const before = JSON.stringify(current());
  let timer, shown = 0;

  const preview = async () => {
    const turn = ++shown;
    let text = "";
    try {
      const recurrence = current();
      if (recurrence?.rrule) text = await describe(recurrence.rrule, elements.dueDate.value, task);
    } catch (error) {
      text = explain(error);
    }
    if (turn === shown) parts.preview.textContent = text;
  };
  const update = () => {
    showFields(parts, elements.frequency.value);
    clearTimeout(timer);
    timer = setTimeout(preview, PREVIEW_DELAY_MS);
  };
  elements.dueDate.addEventListener("change", () => {
    fillMonthDays(parts.monthDay, elements.dueDate.value, parts.monthDay.value);
    update();
  });
  parts.recurrence.addEventListener("input", update);
  update();
  return () => {
    const recurrence = current();
    if (JSON.stringify(recurrence) === before) return undefined;
    if (recurrence && !elements.dueDate.value) throw new UserError("A task that repeats must have a due date.");
    return recurrence;
  };
}

/** Makes the buttons work that leave out this occurrence, and that stop the recurrence. `onDone` receives the task. */
export function initOccurrence({ scopeField, skip, stop }, task, onDone) {
  for (const part of [scopeField, skip, stop]) part.hidden = !task.recurrence;
  // The following occurrences exist already.
  if (task.nextTaskId) scopeField.hidden = true;
  const act = (verb, text) => async () => onDone(await call("POST", `/v1/tasks/${task.id}:${verb}`, { body: {} }), text);
  onPress(skip, act("skip", "This date was left out."));
  onPress(stop, act("stopRecurrence", "The task no longer repeats."));
}

function weekdayField(day, index) {
  // 1 January 2024 was a Monday.
  const name = new Date(2024, 0, index + 1).toLocaleDateString(undefined, { weekday: "short" });
  return element("label", { class: "choice" }, element("input", { type: "checkbox", name: "weekday", value: day }), name);
}

/** Shows the fields of a frequency. Hidden fields are disabled, so that they are not checked. */
function showFields(parts, frequency) {
  const isShown = {
    intervalField: frequency in UNITS,
    weekdays: frequency === "WEEKLY",
    monthDayField: frequency === "MONTHLY",
    ruleField: frequency === "RULE",
    nextField: frequency !== "",
  };
  for (const [name, shown] of Object.entries(isShown)) {
    parts[name].hidden = !shown;
    for (const field of parts[name].querySelectorAll("input, select")) field.disabled = !shown;
  }
  parts.unit.textContent = UNITS[frequency] ?? "";
}

/** Offers the days of a month on which a task can be due, by its first due date. */
function fillMonthDays(select, dueDate, selected) {
  const options = new Map([["", "The same day"]]);
  if (selected && selected !== "last") options.set(selected, monthDayText(selected));
  if (dueDate) {
    const [year, month, day] = dueDate.split("-").map(Number);
    const weekday = WEEKDAYS[(new Date(year, month - 1, day).getDay() + 6) % 7];
    const lastDay = new Date(year, month, 0).getDate();
    const week = Math.ceil(day / 7);
    if (week < 5) options.set(`${week}${weekday}`, monthDayText(`${week}${weekday}`));
    if (day + 7 > lastDay) options.set(`-1${weekday}`, monthDayText(`-1${weekday}`));
  }
  options.set("last", "The last day");
  select.replaceChildren(...[...options].map(([value, text]) => element("option", { value }, text)));
  select.value = selected;
}

/** Returns the text of an ordinal weekday: `2TU` is “The 2nd Tuesday”. */
function monthDayText(value) {
  const name = new Date(2024, 0, WEEKDAYS.indexOf(value.slice(-2)) + 1).toLocaleDateString("en", { weekday: "long" });
  const ordinal = { "-1": "last", 1: "1st", 2: "2nd", 3: "3rd" }[value.slice(0, -2)] ?? `${value.slice(0, -2)}th`;
  return `The ${ordinal} ${name}`;
}

/** Returns the fields for a rule. A rule that these cannot represent is shown as it is. */
function parseRule(rrule) {
  const fields = { frequency: "", interval: "1", weekdays: [], monthDay: "", rrule };
  if (!rrule) return fields;
  const ruleParts = Object.fromEntries(rrule.split(";").map((part) => part.split("=")));
  const { FREQ: frequency, INTERVAL: interval = "1", BYDAY: days = "", BYMONTHDAY: monthDay = "", ...others } = ruleParts;
  const other = { ...fields, frequency: "RULE" };
  if (Object.keys(others).length || !(frequency in UNITS)) return other;
  const simple = { ...fields, frequency, interval, rrule: "" };
  if (!days && !monthDay) return simple;
  if (frequency === "WEEKLY" && !monthDay && days.split(",").every((day) => WEEKDAYS.includes(day))) {
    return { ...simple, weekdays: days.split(",") };
  }
  if (frequency === "MONTHLY" && !days && monthDay === "-1") return { ...simple, monthDay: "last" };
  if (frequency === "MONTHLY" && !monthDay && /^(-1|[1-5])[A-Z]{2}$/.test(days)) return { ...simple, monthDay: days };
  return other;
}

/** Returns the recurrence in a form, or `null` if there is none. */
function recurrenceOf({ elements }) {
  const frequency = elements.frequency.value;
  if (!frequency) return null;
  const next = elements.next.value;
  const catchUp = next === "BASIS_COMPLETION" ? "CATCH_UP_SKIP" : next;
  const basis = next === "BASIS_COMPLETION" ? next : "BASIS_DUE";
  return { rrule: ruleOf(elements, frequency), basis, catchUp };
}

function ruleOf(elements, frequency) {
  if (frequency === "RULE") return ruleOfWords(elements.rrule.value.trim());
  const rule = [`FREQ=${frequency}`];
  if (elements.interval.value !== "1") rule.push(`INTERVAL=${elements.interval.value}`);
  const weekdays = [...elements.weekday].filter((box) => box.checked).map((box) => box.value);
  if (frequency === "WEEKLY" && weekdays.length) rule.push(`BYDAY=${weekdays}`);
  const monthDay = elements.monthDay.value;
  if (frequency === "MONTHLY" && monthDay) rule.push(monthDay === "last" ? "BYMONTHDAY=-1" : `BYDAY=${monthDay}`);
  return rule.join(";");
}

/** Returns the rule of a text in plain English. Rules are returned as they are; the server checks them. */
function ruleOfWords(text) {
  const rule = text.includes("=") ? text : ruleOfText(text);
  if (!rule) throw new UserError("For example: every 2nd Tuesday, every 3 weeks on Monday and Friday, every 15 March.");
  return rule;
}

/** Returns a rule in plain English, and the first dates from the due date. */
async function describe(rrule, dueDate, task) {
  if (!dueDate) return "A task that repeats must have a due date.";
  const query = new URLSearchParams({ rrule, page_size: PREVIEW_COUNT });
  if (task.dueTime && dueDate === dueDay(task)) {
    query.set("start_time", task.dueTime);
    query.set("time_zone", task.timeZone || timeZone());
  } else {
    query.set("start_date", dueDate);
  }
  const { recurrenceText, dates, times } = await call("GET", `/v1/recurrence:preview?${query}`);
  const first = [...dates.map(formatDay), ...times.map(formatInstant)];
  const rest = first.length === PREVIEW_COUNT ? ", …" : "";
  return `${recurrenceText.charAt(0).toUpperCase()}${recurrenceText.slice(1)}: ${first.join(", ")}${rest}`;
}

/** Returns a recurrence in plain English. */
export async function recurrenceInWords({ rrule, basis, catchUp }) {
  const query = new URLSearchParams({ rrule, start_date: dayOf(new Date()), page_size: 1 });
  const { recurrenceText } = await call("GET", `/v1/recurrence:preview?${query}`);
  if (basis === "BASIS_COMPLETION") return `${recurrenceText}, counted from the day of completion`;
  return catchUp === "CATCH_UP_EACH" ? `${recurrenceText}, keeping every date` : recurrenceText;
}
