// Edits a task in place. Sends only the changed fields, with the etag, so that a concurrent change is not overwritten.
import { UserError, call } from "./api.js";
import { dueDay, timeZone } from "./dates.js";
import { fillLists, fromTemplate } from "./dom.js";
import { onSubmit } from "./form.js";
import { showHistory } from "./history.js";
import { announce } from "./notice.js";
import { initOccurrence, initRecurrence } from "./recurrence.js";
import { initReminders } from "./reminders.js";
import { store } from "./store.js";

/** The open editors by the ids of their tasks: each with the task as it was opened, the form, and the row that it replaces. */
const editors = new Map();

/**
 * Keeps editors visible while the tasks of the view change: they follow the rows of their tasks. Those whose task has no row
 * are at the top of the view, because it was moved or deleted elsewhere, or a search does not find it. `focused` had the
 * focus before the change.
 */
export function keepEditors(root, focused) {
  for (const [id, editor] of editors) {
    const { form, task } = editor;
    const item = root.querySelector(`[data-id="${CSS.escape(id)}"]`);
    if (item) {
      if (form.parentElement !== item) attach(editor, item);
    } else if (!root.contains(form)) {
      const isElsewhere = store.task(id)?.listId !== task.listId;
      if (isElsewhere) form.querySelector(".error").textContent = "This task was moved or deleted elsewhere while you were editing it.";
      root.prepend(form);
    }
    const group = form.closest("details");
    if (group) group.open = true;
    if (form.contains(focused) && document.activeElement !== focused) focused.focus();
  }
}

/** Closes all editors without saving. */
export function discardEditors() {
  for (const editor of editors.values()) detach(editor);
  editors.clear();
}

/** Makes an editor replace the row of its task in an item of a list. */
function attach(editor, item) {
  detach(editor);
  editor.row = item.querySelector(":scope > .row");
  editor.row.hidden = true;
  editor.row.after(editor.form);
  editor.row.querySelector(".body").setAttribute("aria-expanded", "true");
}

/** Shows the row again that an editor replaces. */
function detach({ form, row }) {
  form.remove();
  if (!row) return;
  row.hidden = false;
  row.querySelector(".body").setAttribute("aria-expanded", "false");
}

/** Opens the editor of a task, which replaces its row in an item of a list. A task has one editor. */
export function openEditor(item, task) {
  const open = editors.get(task.id);
  if (open) {
    attach(open, item);
    return open.form.elements.title.focus();
  }
  const parts = fromTemplate("task-editor");
  const { root: form, title, cancel, lists, listField, history } = parts;
  const initial = formValues(task);
  for (const [name, value] of Object.entries(initial)) form.elements[name].value = value;
  fillLists(lists, store.lists, task.listId);
  listField.hidden = store.lists.length < 2;
  const changedRecurrence = initRecurrence(form, parts, task);
  const changedReminders = initReminders(form, parts, task);
  const editor = { task, form };
  const close = () => {
    editors.delete(task.id);
    detach(editor);
    if (document.activeElement === document.body) editor.row.querySelector(".body").focus();
  };
  cancel.addEventListener("click", close);
  history.addEventListener("click", () => showHistory(task));
  initOccurrence(parts, task, (updated, text) => {
    store.put(updated);
    close();
    announce(text);
  });
  form.addEventListener("keydown", (event) => {
    if (event.key === "Escape") close();
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
  });
  let { etag } = task;
  onSubmit(form, async (fields) => {
    try {
      const changes = changedFields(initial, fields);
      const recurrence = changedRecurrence();
      if (recurrence !== undefined) changes.recurrence = recurrence;
      const reminders = changedReminders();
      if (reminders) changes.reminders = reminders;
      await save(task, changes, fields, etag);
    } catch (error) {
      if (error.code !== 412) throw error;
      const latest = await call("GET", `/v1/tasks/${task.id}`);
      store.put(latest);
      etag = latest.etag;
      throw conflictError(latest);
    }
    close();
    announce("Saved.");
  });
  editors.set(task.id, editor);
  attach(editor, item);
  title.focus();
}

async function save(task, changes, { listId, scope }, etag) {
  const query = task.recurrence && !task.nextTaskId && !("recurrence" in changes) ? `?scope=${scope}` : "";
  if (Object.keys(changes).length) store.put(await update(`/v1/tasks/${task.id}${query}`, changes, etag));
  if (listId !== task.listId) store.put(await call("POST", `/v1/tasks/${task.id}:move`, { body: { listId } }));
}

/** Updates a task. If the server does not know the time zone of the browser, a due date ends in UTC. */
async function update(path, body, etag) {
  try {
    return await call("PATCH", path, { body, etag });
  } catch (error) {
    if (!body.timeZone || !error.fields?.some(({ field }) => field.endsWith("time_zone"))) throw error;
    return call("PATCH", path, { body: { ...body, timeZone: "" }, etag });
  }
}

function conflictError(latest) {
  if (latest.deleteTime) return new UserError("This task has been deleted elsewhere in the meantime.");
  return new UserError(
    `This task was changed elsewhere while you were editing it; its title is now “${latest.title}”. ` +
      "Save again to apply your changes to the new version, or cancel to discard them.",
  );
}

/** Returns the values of the form fields for a task. */
function formValues(task) {
  const { title, notes, priority } = task;
  return { title, notes, dueDate: dueDay(task), priority, labels: task.labels.map(quoteLabel).join(", ") };
}

/** Returns a label for a list that is separated by commas, in quotation marks if it would not be read as it is (as in CSV). */
function quoteLabel(label) {
  return /,|^"/.test(label) || label !== label.trim() ? `"${label.replaceAll('"', '""')}"` : label;
}

/** Returns the labels of a list that is separated by commas. */
function parseLabels(text) {
  const labels = text.matchAll(/\s*(?:"((?:[^"]|"")*)"\s*|([^,]*))(?:,|$)/gy);
  const values = [...labels].map(([, quoted, plain]) => quoted?.replaceAll('""', '"') ?? plain.trim());
  return [...new Set(values.filter((label) => label.trim()))];
}

/** Returns the changed fields in the form of the API. */
function changedFields(initial, fields) {
  const names = Object.keys(initial).filter((name) => fields[name].replaceAll("\r\n", "\n") !== initial[name]);
  const body = Object.fromEntries(names.map((name) => [name, fields[name].replaceAll("\r\n", "\n")]));
  if ("labels" in body) body.labels = parseLabels(body.labels);
  if ("dueDate" in body) {
    body.dueDate ||= null;
    // The due day ends in the user's time zone. It replaces a due time, for which this form has no field.
    body.timeZone = body.dueDate ? timeZone() : "";
    if (!body.dueDate) body.dueTime = null;
  }
  return body;
}
