// One task: its row, and its parts below it.
import { call, explain } from "./api.js";
import { due } from "./dates.js";
import { arrange, element, fromTemplate } from "./dom.js";
import { makeDraggable } from "./drag.js";
import { openEditor } from "./editor.js";
import { onSubmit } from "./form.js";
import { moveByKey } from "./move.js";
import { announce, tell } from "./notice.js";
import { isOpen, store } from "./store.js";

const PRIORITIES = { PRIORITY_LOW: "low priority", PRIORITY_MEDIUM: "medium priority", PRIORITY_HIGH: "high priority" };
/** How many levels of parts a task can have below the one at the top. */
const DEEPEST = 4;

/** The rows of a view, each of which stays the same while its task changes. */
export class Rows {
  #rows = new Map();

  /** With `apart` each task stands for itself: it has no parts, says its list, and cannot be moved. */
  constructor({ apart = false } = {}) {
    this.apart = apart;
  }

  /** The elements of these tasks. */
  of(tasks) {
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
    body.addEventListener("click", () => openEditor(this.parts, store.task(id)));
    check.addEventListener("change", () => this.#complete(check.checked));
    remove.addEventListener("click", () => this.#remove());
    add.addEventListener("click", () => this.#openPartForm());
    handle.addEventListener("keydown", (event) => moveByKey(id, event.key) && event.preventDefault());
    makeDraggable(handle, root);
  }

  update(task) {
    const { root, add, parts } = this.parts;
    if (this.task !== task || this.rows.apart) this.#write(task);
    this.task = task;
    add.hidden = this.rows.apart || store.depth(task) >= DEEPEST;
    arrange(parts, this.rows.apart ? [] : this.rows.of(store.children(task.listId, task.id)));
    parts.hidden = !parts.childElementCount;
    return root;
  }

  #write(task) {
    const { root, handle, check, body, title, notes, facts, add, remove } = this.parts;
    root.classList.toggle("finished", !isOpen(task));
    check.checked = !isOpen(task);
    title.textContent = task.title;
    notes.textContent = task.notes.split("\n", 1)[0];
    facts.replaceChildren(...this.#facts(task));
    check.setAttribute("aria-label", `Completed: ${task.title}`);
    handle.setAttribute("aria-label", `Move ${task.title}`);
    remove.setAttribute("aria-label", `Delete ${task.title}`);
    add.setAttribute("aria-label", `Add a part to ${task.title}`);
    body.title = "Edit";
    handle.hidden = this.rows.apart;
  }

  #facts(task) {
    const facts = [];
    const when = due(task);
    if (when) facts.push(element("span", when.late && isOpen(task) ? { class: "late" } : {}, dueText(when, task)));
    const priority = PRIORITIES[task.priority];
    if (priority) facts.push(element("span", task.priority === "PRIORITY_HIGH" ? { class: "high" } : {}, priority));
    for (const label of task.labels) facts.push(element("span", {}, `#${label}`));
    if (this.rows.apart) facts.push(element("span", {}, `in ${store.list(task.listId)?.title ?? "another list"}`));
    return facts;
  }

  async #complete(done) {
    try {
      const task = await call("POST", `/v1/tasks/${this.id}:${done ? "complete" : "reopen"}`, { body: {} });
      announce(`${task.title}: ${done ? "completed" : "open again"}.`);
      store.put(task);
    } catch (error) {
      this.parts.check.checked = !done;
      tell(explain(error));
    }
  }

  async #remove() {
    try {
      const task = await call("DELETE", `/v1/tasks/${this.id}?allow_missing=true`);
      if (!task.id) return;
      store.put(task);
      tell(`Deleted “${task.title}”.`, { label: "Undo", run: () => undelete(task) });
    } catch (error) {
      tell(explain(error));
    }
  }

  #openPartForm() {
    if (this.partForm?.isConnected) return this.partForm.elements.title.focus();
    const { root: form, title, cancel } = fromTemplate("part-form");
    this.partForm = form;
    title.setAttribute("aria-label", `New part of ${store.task(this.id).title}`);
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

/** Makes a task; a fault is for the eye and the ear alike, since such forms are short of room. */
export async function addTask(body) {
  try {
    const task = await call("POST", "/v1/tasks", { body });
    store.put(task);
    announce(`Added ${task.title}.`);
    return task;
  } catch (error) {
    tell(explain(error));
    throw error;
  }
}

async function undelete(task) {
  try {
    store.put(await call("POST", `/v1/tasks/${task.id}:undelete`, { body: {} }));
    announce(`${task.title} is back.`);
    document.querySelector(`[data-id="${CSS.escape(task.id)}"] .body`)?.focus();
  } catch (error) {
    tell(explain(error));
  }
}

function dueText({ text, late }, task) {
  return late && isOpen(task) ? `overdue: ${text}` : `due ${text}`;
}
