// The parts that the views of the account and of administrators have in common. All texts are inserted as text.
import { element } from "./dom.js";
import { onPress } from "./form.js";

/** Creates a view with a heading and content that does not change with the tasks. */
export function createPage(title, ...children) {
  const heading = element("h1", { tabindex: "-1" }, title);
  const root = element("section", { class: "page account" }, element("div", { class: "page-head" }, heading), ...children);
  return { root, heading, update: () => {}, title: () => title };
}

/**
 * Creates an item of a list. The title and the details are texts or elements; empty details are left out. Actions are
 * buttons with a `label`, a `name` that says to what the label applies, and a function `run`.
 */
export function entry({ title, badges = [], details = [], actions = [] }) {
  const head = element("p", {}, element("strong", {}, title));
  for (const text of badges) head.append(" ", element("span", { class: "badge" }, text));
  const lines = details.filter(Boolean).map((line) => element("p", { class: "muted" }, line));
  const item = element("li", {}, element("div", {}, head, ...lines));
  if (actions.length) item.append(element("div", { class: "actions" }, ...actions.map(actionButton)));
  return item;
}

/** Creates a button that runs an action. */
export function actionButton({ label, name, run }) {
  const button = element("button", { type: "button" }, label);
  if (name) button.setAttribute("aria-label", name);
  onPress(button, run);
  return button;
}

/** Creates a field with which one of some options is selected. `options` maps values to texts. */
export function selectField(label, options, onChange) {
  const select = element("select", {}, ...Object.entries(options).map(([value, text]) => element("option", { value }, text)));
  select.addEventListener("change", () => onChange(select.value));
  return element("label", {}, label, select);
}

/** Returns the name of an enum value in words: `KIND_SIGN_UP` without its prefix `KIND_` is “Sign up”. */
export function readableName(name, prefix = "") {
  const words = name.replace(prefix, "").toLowerCase().replaceAll("_", " ");
  return words.charAt(0).toUpperCase() + words.slice(1);
}
