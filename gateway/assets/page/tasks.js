// The tasks of one list: the open ones, a field for a new one, and those that are completed.
import { arrange, fromTemplate } from "./dom.js";
import { onSubmit } from "./form.js";
import { deleteList, renameList } from "./lists.js";
import { Rows, addTask } from "./row.js";
import { isOpen, store } from "./store.js";

/** The view of a list. */
export function listView(id) {
  const parts = fromTemplate("tasks-view");
  const rows = new Rows();
  parts.rename.addEventListener("click", () => renameList(store.list(id)));
  parts.remove.addEventListener("click", () => deleteList(store.list(id)));
  onSubmit(parts.composer, async ({ title }) => {
    const task = await addTask({ title, listId: id });
    parts.composer.reset();
    parts.root.querySelector(`[data-id="${CSS.escape(task.id)}"]`)?.scrollIntoView({ block: "nearest" });
    parts.composer.elements.title.focus();
  });
  const update = () => {
    const list = store.list(id);
    if (!list) return;
    const tasks = store.children(id);
    const open = tasks.filter(isOpen), done = tasks.filter((task) => !isOpen(task));
    parts.heading.textContent = list.title;
    parts.remove.hidden = list.isDefault;
    keepFocus(parts, () => {
      arrange(parts.open, rows.of(open));
      arrange(parts.done, rows.of(done));
    });
    parts.empty.textContent = open.length ? "" : done.length ? "All done." : "Nothing to do here yet.";
    parts.doneGroup.hidden = !done.length;
    parts.doneTitle.textContent = `Completed (${done.length})`;
  };
  return { root: parts.root, heading: parts.heading, update, title: () => store.list(id)?.title };
}

/** The focus stays where it is, or goes to the task that takes the place of one that goes away. */
function keepFocus(parts, change) {
  const bodies = () => [...parts.root.querySelectorAll(".task .body")].filter((body) => body.checkVisibility());
  const focused = document.activeElement, task = focused.closest(".task");
  const at = task && parts.root.contains(task) ? bodies().findIndex((body) => body.closest(".task") === task) : -1;
  change();
  if (at < 0 || document.activeElement !== document.body) return;
  const there = focused.isConnected && focused.checkVisibility() ? focused : bodies()[at];
  (there ?? parts.composer.elements.title).focus({ preventScroll: true });
}
