// The tasks of one list: open tasks, a field for a new task, and completed tasks.
import { arrange, fromTemplate } from "./dom.js";
import { onSubmit } from "./form.js";
import { deleteList, renameList } from "./lists.js";
import { Rows, addTask } from "./row.js";
import { isOpen, store } from "./store.js";

/** Creates the view of a list. */
export function listView(id) {
  const parts = fromTemplate("tasks-view");
  const rows = new Rows();
  parts.rename.addEventListener("click", () => renameList(store.list(id)));
  parts.remove.addEventListener("click", () => deleteList(store.list(id)));
  onSubmit(parts.newTask, async ({ title }) => {
    const task = await addTask({ title, listId: id });
    parts.newTask.reset();
    parts.root.querySelector(`[data-id="${CSS.escape(task.id)}"]`)?.scrollIntoView({ block: "nearest" });
    parts.newTask.elements.title.focus();
  });
  const update = () => {
    const list = store.list(id);
    if (!list) return;
    const tasks = store.children(id);
    const open = tasks.filter(isOpen), done = tasks.filter((task) => !isOpen(task));
    parts.heading.textContent = list.title;
    parts.remove.hidden = list.isDefault;
    keepFocus(parts, () => {
      arrange(parts.open, rows.render(open));
      arrange(parts.done, rows.render(done));
    });
    parts.empty.textContent = open.length ? "" : done.length ? "All done." : "Nothing to do here yet.";
    parts.doneGroup.hidden = !done.length;
    parts.doneTitle.textContent = `Completed (${done.length})`;
  };
  return { root: parts.root, heading: parts.heading, update, title: () => store.list(id)?.title };
}

/** Keeps the focus during a change. If the focused task disappears, the task that takes its position gets the focus. */
function keepFocus(parts, change) {
  const bodies = () => [...parts.root.querySelectorAll(".task .body")].filter((body) => body.checkVisibility());
  const focused = document.activeElement, task = focused.closest(".task");
  const index = task && parts.root.contains(task) ? bodies().findIndex((body) => body.closest(".task") === task) : -1;
  change();
  if (index < 0 || document.activeElement !== document.body) return;
  const target = focused.isConnected && focused.checkVisibility() ? focused : bodies()[index];
  (target ?? parts.newTask.elements.title).focus({ preventScroll: true });
}
