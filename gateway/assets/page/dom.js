// Makes elements from the page's templates, and puts them in order. What people wrote is only ever set as text.

/** A copy of a template, as `root`, and its parts by their `data-part`. */
export function fromTemplate(id) {
  const root = document.getElementById(id).content.firstElementChild.cloneNode(true);
  const parts = { root };
  for (const part of root.querySelectorAll("[data-part]")) parts[part.dataset.part] = part;
  return parts;
}

/** An element with attributes and texts or elements in it. */
export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

/** Makes these the children of an element. Whoever stays in place is not touched, and the focus stays where it is. */
export function arrange(parent, children) {
  const focused = document.activeElement;
  const wanted = new Set(children);
  for (const child of [...parent.children]) if (!wanted.has(child)) child.remove();
  let at = parent.firstElementChild;
  for (const child of children) {
    if (child === at) at = at.nextElementSibling;
    else parent.insertBefore(child, at);
  }
  if (focused !== document.activeElement && focused?.isConnected) focused.focus({ preventScroll: true });
}

/** Shows a dialog until it is closed, by its cancel button too, and gives the focus back. */
export function showDialog({ root, cancel }) {
  const before = document.activeElement;
  document.body.append(root);
  cancel.addEventListener("click", () => root.close());
  root.addEventListener("close", () => {
    root.remove();
    if (before?.isConnected) before.focus();
  });
  root.showModal();
}

/** Fills a choice of lists. */
export function fillLists(select, lists, chosen) {
  select.replaceChildren(...lists.map((list) => {
    const option = element("option", { value: list.id }, list.title);
    option.selected = list.id === chosen;
    return option;
  }));
}
