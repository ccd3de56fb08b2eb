// One task: its row, and its subtasks below it.
import { call, explain } from "./api.js";
import { dayOf, due } from "./dates.js";
import { arrange, element, fromTemplate, showDialog } from "./dom.js";
import { makeDraggable } from "./drag.js";
import { openEditor } from "./editor.js";
import { onSubmit } from "./form.js";
import { moveByKey } from "./move.js";
import { announce, showToast } from "./notice.js";
import { isOpen, store } from "./store.js";

const PRIORITIES = { PRIORITY_LOW: "low priority", PRIORITY_MEDIUM: "medium priority", PRIORITY_HIGH: "high priority" };
/** Levels of subtasks below a top-level task. */
const MAX_DEPTH = 4;

/** The rows of a view. A task keeps its row while it changes. */
export class Rows {
  #rows = new Map();

  /** With `isFlat`, the rows show the list of the task, but no subtasks, and cannot be moved. */
  constructor({ isFlat = false } = {}) {
    this.isFlat = isFlat;
  }

  /** Returns the up-to-date elements of tasks. */
  render(tasks) {
    return tasks.map((task) => {
      if (!this.#rows.has(task.id)) this.#rows.set(task.id, new Row(task.id, this));
      return this.#rows.get(task.id).update(task);
    });
  }
}

class Row {
  constructor(id, rows) {
    this.id = id;
    this.rows = rows;
    this.parts = fromTemplate("task-row");
    const { root, handle, check, body, add, remove } = this.parts;
    root.dataset.id = id;
    body.addEventListener("click", () => openEditor(root, store.task(id)));
    check.addEventListener("change", () => this.#setDone(check.checked));
    remove.addEventListener("click", () => this.#remove());
    add.addEventListener("click", () => this.#openSubtaskForm());
    handle.addEventListener("keydown", (event) => moveByKey(id, event.key) && event.preventDefault());
    makeDraggable(handle, root);
  }

  update(task) {
    const { root, add, subtasks } = this.parts;
    const today = dayOf(new Date());
    if (this.task !== task || this.today !== today || this.rows.isFlat) this.#write(task);
    Object.assign(this, { task, today });
    add.hidden = this.rows.isFlat || store.depth(task) >= MAX_DEPTH;
    arrange(subtasks, this.rows.isFlat ? [] : this.rows.render(store.children(task.listId, task.id)));
    subtasks.hidden = !subtasks.childElementCount;
    return root;
  }

  #write(task) {
    const { root, handle, check, body, title, notes, details, add, remove } = this.parts;
    root.classList.toggle("completed", !isOpen(task));
    check.checked = !isOpen(task);
    title.textContent = task.title;
    notes.textContent = task.notes.split("\n", 1)[0];
    details.replaceChildren(...this.#details(task));
    check.setAttribute("aria-label", `Completed: ${task.title}`);
    handle.setAttribute("aria-label", `Move ${task.title}`);
    remove.setAttribute("aria-label", `Delete ${task.title}`);
    add.setAttribute("aria-label", `Add a subtask to ${task.title}`);
    body.title = "Edit";
    handle.hidden = this.rows.isFlat;
  }

  #details(task) {
    const details = [];
    const when = due(task);
    if (when) details.push(element("span", when.late && isOpen(task) ? { class: "late" } : {}, dueText(when, task)));
    const priority = PRIORITIES[task.priority];
    if (priority) details.push(element("span", task.priority === "PRIORITY_HIGH" ? { class: "high" } : {}, priority));
    if (task.recurrenceText) details.push(element("span", {}, `repeats ${task.recurrenceText}`));
    for (const label of task.labels) details.push(element("span", {}, `#${label}`));
    if (this.rows.isFlat) details.push(element("span", {}, `in ${store.list(task.listId)?.title ?? "another list"}`));
    return details;
  }

  /** Completes or reopens the task. If it has open subtasks, asks whether to complete them too. */
  #setDone(done) {
    const open = done ? store.openSubtasks(store.task(this.id)) : [];
    if (!open.length) return this.#complete(done, {});
    const parts = fromTemplate("complete-dialog");
    parts.heading.textContent = `Complete “${store.task(this.id).title}”?`;
    parts.question.textContent = open.length === 1 ? "One of its subtasks is open." : `${open.length} of its subtasks are open.`;
    parts.root.addEventListener("close", () => {
      if (parts.root.returnValue) this.#complete(true, { includeSubtasks: parts.root.returnValue === "all" });
      else this.parts.check.checked = false;
    });
    showDialog(parts);
  }

  async #complete(done, body) {
    try {
      const task = await call("POST", `/v1/tasks/${this.id}:${done ? "complete" : "reopen"}`, { body });
      announce(`${task.title}: ${done ? "completed" : "reopened"}.`);
      store.put(task);
    } catch (error) {
      this.parts.check.checked = !done;
      showToast(explain(error));
    }
  }

  async #remove() {
    try {
      const task = await call("DELETE", `/v1/tasks/${this.id}?allow_missing=true`);
      if (!task.id) return;
      store.put(task);
      showToast(`Deleted “${task.title}”.`, { label: "Undo", run: () => undelete(task) });
    } catch (error) {
      showToast(explain(error));
    }
  }

  #openSubtaskForm() {
    if (this.subtaskForm?.isConnected) return this.subtaskForm.elements.title.focus();
    const { root: form, title, cancel } = fromTemplate("subtask-form");
    this.subtaskForm = form;
    title.setAttribute("aria-label", `New subtask of ${store.task(this.id).title}`);
    const close = () => {
      form.remove();
      this.parts.add.focus();
    };
    cancel.addEventListener("click", close);
    form.addEventListener("keydown", (event) => event.key === "Escape" && close());
    onSubmit(form, async (fields) => {
      await addTask({ title: fields.title, parentId: this.id, listId: store.task(this.id).listId });
      form.reset();
      title.focus();
    });
    this.parts.root.append(form);
    title.focus();
  }
}

/** Creates a task. Shows errors as a toast, since the forms for new tasks have no room for them. */
export async function addTask(body) {
  try {
    const task = await call("POST", "/v1/tasks", { body });
    store.put(task);
    announce(`Added ${task.title}.`);
    return task;
  } catch (error) {
    showToast(explain(error));
    throw error;
  }
}

async function undelete(task) {
  try {
    store.put(await call("POST", `/v1/tasks/${task.id}:undelete`, { body: {} }));
    announce(`Restored ${task.title}.`);
    document.querySelector(`[data-id="${CSS.escape(task.id)}"] .body`)?.focus();
  } catch (error) {
    showToast(explain(error));
  }
}

function dueText({ text, late }, task) {
  return late && isOpen(task) ? `overdue: ${text}` : `due ${text}`;
}
