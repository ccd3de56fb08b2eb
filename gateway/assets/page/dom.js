// Creates elements from the page's templates and arranges them. User input is only ever inserted as text.

/** Clones a template. Returns its `root`, and its elements with a `data-part` attribute by that name. */
export function fromTemplate(id) {
  const root = document.getElementById(id).content.firstElementChild.cloneNode(true);
  const parts = { root };
  for (const part of root.querySelectorAll("[data-part]")) parts[part.dataset.part] = part;
  return parts;
}

/** Creates an element with attributes and with texts or elements as children. */
export function element(name, attributes = {}, ...children) {
  const created = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) created.setAttribute(key, value);
  created.append(...children);
  return created;
}

/** Makes `children` the children of an element. Elements that stay in place are not touched; the focus is kept. */
export function arrange(parent, children) {
  const focused = document.activeElement;
  const kept = new Set(children);
  for (const child of [...parent.children]) if (!kept.has(child)) child.remove();
  let next = parent.firstElementChild;
  for (const child of children) {
    if (child === next) next = next.nextElementSibling;
    else parent.insertBefore(child, next);
  }
  if (focused !== document.activeElement && focused?.isConnected) focused.focus({ preventScroll: true });
}

/**
 * Shows a dialog. When it is closed or cancelled, it is removed, and the focus returns to where it was, or to the
 * heading of the view.
 */
export function showDialog({ root, cancel }) {
  const previousFocus = document.activeElement;
  document.body.append(root);
  cancel.addEventListener("click", () => root.close());
  root.addEventListener("close", () => {
    root.remove();
    const heading = document.querySelector("#view h1");
    if (!document.querySelector("dialog")) (previousFocus?.isConnected ? previousFocus : heading)?.focus();
  });
  root.showModal();
}

/** Fills a `<select>` with lists. */
export function fillLists(select, lists, selectedId) {
  select.replaceChildren(...lists.map((list) => {
    const option = element("option", { value: list.id }, list.title);
    option.selected = list.id === selectedId;
    return option;
  }));
}
