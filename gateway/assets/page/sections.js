// The views besides the lists and the search: those of the own account, and those of administrators.
import { accountView } from "./account.js";
import { element } from "./dom.js";
import { eventsView } from "./events.js";
import { tokensView } from "./tokens.js";

const ACCOUNT_SECTIONS = {
  account: { name: "Account", create: accountView },
  tokens: { name: "Access tokens", create: tokensView },
  events: { name: "Security events", create: eventsView },
};

/** Returns the section in the URL, if there is one, for example `#account`. */
export function linkedSection() {
  const name = location.hash.slice(1);
  return Object.hasOwn(ACCOUNT_SECTIONS, name) ? { name, id: name } : undefined;
}

/** Creates the view of a section, with links to the others. `session` has the functions that end the session. */
export function sectionView({ name }, user, session) {
  const view = ACCOUNT_SECTIONS[name].create(user, session);
  view.root.prepend(navigation("Account", ACCOUNT_SECTIONS, name));
  return view;
}

function navigation(label, sections, current) {
  const items = Object.entries(sections).map(([id, { name }]) => {
    const link = element("a", { href: `#${id}` }, name);
    if (id === current) link.setAttribute("aria-current", "page");
    return element("li", {}, link);
  });
  return element("nav", { class: "sections", "aria-label": label }, element("ul", {}, ...items));
}
