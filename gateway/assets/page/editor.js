// Edits a task in its place. Only what a person has changed is sent, and only if nobody else was faster.
import { Told, call } from "./api.js";
import { dueDay } from "./dates.js";
import { fillLists, fromTemplate } from "./dom.js";
import { onSubmit } from "./form.js";
import { announce } from "./notice.js";
import { store } from "./store.js";

/** Opens the editor of a task in the place of its row. */
export function openEditor({ root, row, body }, task) {
  const { root: form, title, cancel, lists, listField } = fromTemplate("task-editor");
  const before = valuesOf(task);
  for (const [name, value] of Object.entries(before)) form.elements[name].value = value;
  fillLists(lists, store.lists, task.listId);
  listField.hidden = store.lists.length < 2;
  const close = () => {
    form.remove();
    row.hidden = false;
    body.setAttribute("aria-expanded", "false");
    if (document.activeElement === document.body) body.focus();
  };
  cancel.addEventListener("click", close);
  form.addEventListener("keydown", (event) => {
    if (event.key === "Escape") close();
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
  });
  let { etag } = task;
  onSubmit(form, async (fields) => {
    try {
      await save(task, changed(before, fields), fields.listId, etag);
    } catch (error) {
      if (error.code !== 412) throw error;
      const newer = await call("GET", `/v1/tasks/${task.id}`);
      store.put(newer);
      etag = newer.etag;
      throw conflict(newer);
    }
    close();
    announce("Saved.");
  });
  row.hidden = true;
  row.after(form);
  body.setAttribute("aria-expanded", "true");
  title.focus();
}

async function save(task, changes, listId, etag) {
  if (Object.keys(changes).length) store.put(await call("PATCH", `/v1/tasks/${task.id}`, { body: changes, etag }));
  if (listId !== task.listId) store.put(await call("POST", `/v1/tasks/${task.id}:move`, { body: { listId } }));
}

function conflict(newer) {
  if (newer.deleteTime) return new Told("This task has been deleted elsewhere in the meantime.");
  return new Told(
    `This task was changed elsewhere while you were editing it; there it reads “${newer.title}”. ` +
      "Save again to put your changes on top, or cancel to leave it so.",
  );
}

/** A task as the fields of the form have it. */
function valuesOf(task) {
  return { title: task.title, notes: task.notes, dueDate: dueDay(task), priority: task.priority, labels: task.labels.join(", ") };
}

/** The fields that differ, as the API takes them. */
function changed(before, fields) {
  const names = Object.keys(before).filter((name) => fields[name].replaceAll("\r\n", "\n") !== before[name]);
  const body = Object.fromEntries(names.map((name) => [name, fields[name].replaceAll("\r\n", "\n")]));
  if ("labels" in body) body.labels = [...new Set(body.labels.split(",").map((label) => label.trim()).filter(Boolean))];
  if ("dueDate" in body) {
    body.dueDate ||= null;
    // The day ends where the person is. A time of day, which this form does not know, gives way.
    body.timeZone = body.dueDate ? Intl.DateTimeFormat().resolvedOptions().timeZone : "";
    if (!body.dueDate) body.dueTime = null;
  }
  return body;
}
