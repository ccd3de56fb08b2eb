// Lists that are loaded page by page.
import { call, explain } from "./api.js";
import { element } from "./dom.js";
import { onPress } from "./form.js";
import { announce } from "./notice.js";

const PAGE_SIZE = 20;

/**
 * Creates a list with a button that loads the next page. `path` is that of a list method, `field` the field of its
 * response with the resources, and `toItem` converts one of them, possibly with a promise. `load` loads the first page with query parameters.
 */
export function pagedList({ label, path, field, emptyText, toItem }) {
  const list = element("ul", { class: "entries", "aria-label": label });
  const empty = element("p", { class: "empty" });
  const errorText = element("p", { class: "error", role: "alert" });
  const more = element("button", { type: "button" }, "Show more");
  const root = element("div", {}, list, empty, errorText, more);
  more.hidden = true;
  let parameters = {}, pageToken = "";

  /** Returns the items of the next page, or `undefined` if other parameters were selected in the meantime. */
  const nextItems = async () => {
    const current = parameters;
    const query = new URLSearchParams({ ...current, page_size: PAGE_SIZE, page_token: pageToken });
    const page = await call("GET", `${path}?${query}`);
    const items = await Promise.all(page[field].map(toItem));
    if (current !== parameters) return undefined;
    pageToken = page.nextPageToken;
    more.hidden = !pageToken;
    return items;
  };
  const load = async (newParameters = {}) => {
    parameters = { ...newParameters };
    pageToken = errorText.textContent = "";
    try {
      const items = await nextItems();
      if (!items) return;
      list.replaceChildren(...items);
      empty.textContent = items.length ? "" : emptyText;
    } catch (error) {
      errorText.textContent = explain(error);
    }
  };
  onPress(more, async () => {
    const items = await nextItems();
    if (!items?.length) return;
    list.append(...items);
    // The next thing to read; the button may have disappeared.
    items[0].tabIndex = -1;
    items[0].focus();
    announce(`${items.length} more.`);
  });
  return { root, load };
}
