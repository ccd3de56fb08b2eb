// Finds tasks in all lists by words and labels.
import { call, explain } from "./api.js";
import { arrange, element } from "./dom.js";
import { keepEditors } from "./editor.js";
import { announce, showToast } from "./notice.js";
import { Rows } from "./row.js";
import { store } from "./store.js";

const INPUT_DELAY_MS = 250;
const UPDATE_DELAY_MS = 1000;
const MAX_RESULTS = 100;

/** Converts a query to a filter: each word must be in the title, in the notes or a label; `#word` is a label. */
export function toFilter(query) {
  const terms = query.trim().split(/\s+/).slice(0, 20).map((word) =>
    /^#./.test(word) ? `labels:${quoted(word.slice(1))}` : `(${quoted(word)} OR labels:${quoted(word)})`,
  );
  return terms.join(" AND ");
}

/** Quotes a text in a filter. */
export function quoted(text) {
  return `"${text.replace(/["\\]/g, "\\$&")}"`;
}

/** Creates the view of the search results. */
export function searchView() {
  const heading = element("h1", { tabindex: "-1" }, "Search");
  const list = element("ul", { class: "tasks", "aria-label": "Search results" });
  const empty = element("p", { class: "empty" });
  const more = element("p", { class: "muted", hidden: "" }, `There are more. These are the newest ${MAX_RESULTS}; add a word to find others.`);
  const root = element("section", { class: "page" }, element("div", { class: "page-head" }, heading), list, more, empty);
  const rows = new Rows({ isFlat: true });
  let foundIds = [], currentQuery = "", timer;

  const show = () => {
    const focused = document.activeElement;
    arrange(list, rows.render(foundIds.map((id) => store.task(id)).filter(Boolean)));
    // The results can arrive when another view is shown, which then has the editors.
    if (root.isConnected) keepEditors(root, focused);
  };
  const runSearch = async () => {
    const query = currentQuery;
    try {
      const filter = encodeURIComponent(toFilter(query));
      const { tasks, nextPageToken } = await call("GET", `/v1/tasks?page_size=${MAX_RESULTS}&filter=${filter}`);
      if (query !== currentQuery) return;
      for (const task of tasks) store.put(task);
      const ids = tasks.map((task) => task.id);
      const isChanged = ids.join() !== foundIds.join();
      foundIds = ids;
      empty.textContent = tasks.length ? "" : "Nothing was found.";
      more.hidden = !nextPageToken;
      const count = nextPageToken ? `More than ${tasks.length}` : tasks.length;
      if (isChanged || !tasks.length) announce(tasks.length === 1 ? "1 task found." : `${count} tasks found.`);
      show();
    } catch (error) {
      showToast(explain(error));
    }
  };
  const scheduleSearch = (delay) => {
    clearTimeout(timer);
    timer = setTimeout(runSearch, delay);
  };
  const search = (query) => {
    currentQuery = query;
    heading.textContent = `Search: ${query}`;
    scheduleSearch(INPUT_DELAY_MS);
  };
  const update = () => {
    show();
    scheduleSearch(UPDATE_DELAY_MS);
  };
  return { root, heading, update, search, dispose: () => clearTimeout(timer), title: () => "Search" };
}
