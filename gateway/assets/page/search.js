// Finds tasks in all lists by words and labels.
import { call, explain } from "./api.js";
import { arrange, element } from "./dom.js";
import { announce, tell } from "./notice.js";
import { Rows } from "./row.js";
import { store } from "./store.js";

const PAUSE = 250;

/** What people type, as a filter: every word must be in the title, in the notes or a label; `#word` is a label. */
export function filterOf(words) {
  const quoted = (text) => `"${text.replace(/["\\]/g, "\\$&")}"`;
  const parts = words.trim().split(/\s+/).slice(0, 20).map((word) =>
    /^#./.test(word) ? `labels:${quoted(word.slice(1))}` : `(${quoted(word)} OR labels:${quoted(word)})`,
  );
  return parts.join(" AND ");
}

/** The view of what is found. */
export function searchView() {
  const heading = element("h1", { tabindex: "-1" }, "Search");
  const list = element("ul", { class: "tasks", "aria-label": "Found tasks" });
  const empty = element("p", { class: "empty" });
  const root = element("section", { class: "page" }, element("div", { class: "page-head" }, heading), list, empty);
  const rows = new Rows({ apart: true });
  let found = [], asked = "", timer;

  const show = () => {
    arrange(list, rows.of(found.map((id) => store.task(id)).filter(Boolean)));
  };
  const ask = async () => {
    const words = asked;
    try {
      const { tasks } = await call("GET", `/v1/tasks?page_size=100&filter=${encodeURIComponent(filterOf(words))}`);
      if (words !== asked) return;
      for (const task of tasks) store.put(task);
      const ids = tasks.map((task) => task.id);
      const isNew = ids.join() !== found.join();
      found = ids;
      empty.textContent = tasks.length ? "" : "Nothing was found.";
      if (isNew || !tasks.length) announce(tasks.length === 1 ? "1 task found." : `${tasks.length} tasks found.`);
      show();
    } catch (error) {
      tell(explain(error));
    }
  };
  const later = (pause) => {
    clearTimeout(timer);
    timer = setTimeout(ask, pause);
  };
  const search = (words) => {
    asked = words;
    heading.textContent = `Search: ${words}`;
    later(PAUSE);
  };
  const update = () => {
    show();
    later(4 * PAUSE);
  };
  return { root, heading, update, search, leave: () => clearTimeout(timer), title: () => "Search" };
}
