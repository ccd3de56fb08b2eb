// The lists at the side: to choose from, to make, to rename and to delete.
import { call, explain } from "./api.js";
import { arrange, fillLists, fromTemplate, showDialog } from "./dom.js";
import { onSubmit } from "./form.js";
import { announce, tell } from "./notice.js";
import { store } from "./store.js";
import { pullLists } from "./watch.js";

/** Shows the lists in an element, the current one marked. */
export function showLists(container, current) {
  const counts = store.counts(), items = (container.items ??= new Map());
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

/** Lets a form make lists. */
export function makeLists(form) {
  onSubmit(form, async ({ title }) => {
    try {
      const list = await call("POST", "/v1/lists", { body: { title } });
      form.reset();
      await pullLists();
      location.hash = `list=${list.id}`;
    } catch (error) {
      tell(explain(error));
    }
  });
}

/** Asks for another name of a list. */
export function renameList(list) {
  const parts = fromTemplate("rename-dialog");
  parts.title.value = list.title;
  onSubmit(parts.root.querySelector("form"), async ({ title }) => {
    await call("PATCH", `/v1/lists/${list.id}`, { body: { title }, etag: list.etag }).catch(renew);
    await pullLists();
    parts.root.close();
    announce("Renamed.");
  });
  showDialog(parts);
  parts.title.select();

  /** Whoever was faster is seen before the name is sent again. */
  async function renew(error) {
    if (error.code === 412) {
      await pullLists();
      list = store.list(list.id) ?? list;
    }
    throw error;
  }
}

/** Asks what shall become of the tasks of a list, and deletes it. */
export function deleteList(list) {
  const parts = fromTemplate("delete-dialog");
  const tasks = store.children(list.id).length;
  parts.heading.textContent = `Delete “${list.title}”?`;
  parts.legend.textContent = "What shall become of its tasks?";
  parts.choice.hidden = !tasks;
  fillLists(parts.target, store.lists.filter((other) => other.id !== list.id));
  onSubmit(parts.root.querySelector("form"), async ({ fate, target }) => {
    const query = tasks && fate === "move" ? `?move_tasks_to=${target}` : "";
    await call("DELETE", `/v1/lists/${list.id}${query}`);
    await pullLists();
    parts.root.close();
    location.hash = "";
    announce(`Deleted ${list.title}.`);
  });
  showDialog(parts);
}
