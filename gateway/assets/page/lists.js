// The lists in the sidebar: select, create, rename and delete.
import { call, explain } from "./api.js";
import { arrange, fillLists, fromTemplate, showDialog } from "./dom.js";
import { onSubmit } from "./form.js";
import { announce, showToast } from "./notice.js";
import { store } from "./store.js";

/** Shows the lists in an element and marks the current one. */
export function showLists(container, current) {
  const counts = store.openCounts(), items = (container.items ??= new Map());
  arrange(container, store.lists.map((list) => {
    if (!items.has(list.id)) items.set(list.id, fromTemplate("list-item"));
    const { root, title, count } = items.get(list.id);
    const link = root.firstElementChild;
    const open = counts.get(list.id) ?? 0;
    title.textContent = list.title;
    count.textContent = open || "";
    link.href = `#list=${list.id}`;
    link.dataset.list = list.id;
    link.setAttribute("aria-label", `${list.title}, ${open} open`);
    if (list.id === current) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
    return root;
  }));
}

/** Makes a form create lists. */
export function initNewListForm(form) {
  onSubmit(form, async ({ title }) => {
    try {
      const list = await call("POST", "/v1/lists", { body: { title } });
      form.reset();
      store.putList(list);
      location.hash = `list=${list.id}`;
    } catch (error) {
      showToast(explain(error));
    }
  });
}

/** Opens the dialog that renames a list. */
export function renameList(list) {
  const parts = fromTemplate("rename-dialog");
  parts.title.value = list.title;
  onSubmit(parts.root.querySelector("form"), async ({ title }) => {
    store.putList(
      await call("PATCH", `/v1/lists/${list.id}`, { body: { title }, etag: list.etag }).catch(reloadOnConflict),
    );
    parts.root.close();
    announce("Renamed.");
  });
  showDialog(parts);
  parts.title.select();

  /** Loads the list again after a conflict, so that the next attempt has the new etag. */
  async function reloadOnConflict(error) {
    if (error.code === 412) store.putList((list = await call("GET", `/v1/lists/${list.id}`)));
    throw error;
  }
}

/** Opens the dialog that deletes a list, and moves or deletes its tasks. */
export function deleteList(list) {
  const parts = fromTemplate("delete-dialog");
  const hasTasks = store.children(list.id).length > 0;
  parts.heading.textContent = `Delete “${list.title}”?`;
  parts.legend.textContent = "What should happen to its tasks?";
  parts.choice.hidden = !hasTasks;
  fillLists(parts.target, store.lists.filter((other) => other.id !== list.id));
  onSubmit(parts.root.querySelector("form"), async ({ taskAction, target }) => {
    const query = hasTasks && taskAction === "move" ? `?move_tasks_to=${target}` : "";
    await call("DELETE", `/v1/lists/${list.id}${query}`);
    store.removeList(list.id);
    parts.root.close();
    location.hash = "";
    announce(`Deleted ${list.title}.`);
  });
  showDialog(parts);
}
