// The views besides the lists and the search: those of the own account, and those of administrators.
import { accountView } from "./account.js";
import { auditView } from "./audit.js";
import { element } from "./dom.js";
import { eventsView } from "./events.js";
import { factorsView } from "./factors.js";
import { filesView } from "./files.js";
import { mailView } from "./mail.js";
import { serviceAccountsView } from "./service-accounts.js";
import { tokensView } from "./tokens.js";
import { usersView } from "./users.js";
import { webhooksView } from "./webhooks.js";

const ACCOUNT_SECTIONS = {
  account: { name: "Account", create: accountView },
  factors: { name: "Two-factor login", create: factorsView },
  tokens: { name: "Access tokens", create: tokensView },
  files: { name: "Import and export", create: filesView },
  events: { name: "Security events", create: eventsView },
  webhooks: { name: "Webhooks", create: webhooksView },
};
const ADMIN_SECTIONS = {
  users: { name: "Users", create: usersView },
  audit: { name: "Audit log", create: auditView },
  mail: { name: "Mail", create: mailView },
  services: { name: "Service accounts", create: serviceAccountsView },
};

/** Returns the section in the URL, if the user has one of this name: `#account`, or `#users=ID` with an argument. */
export function linkedSection(user) {
  const [, name, argument = ""] = /^#(\w+)(?:=([\w-]+))?$/.exec(location.hash) ?? [];
  const sections = isAdmin(user) ? { ...ACCOUNT_SECTIONS, ...ADMIN_SECTIONS } : ACCOUNT_SECTIONS;
  return Object.hasOwn(sections, name) ? { ...sections[name], argument, id: location.hash } : undefined;
}

/** Creates the view of a section, with links to the others. `session` has the functions that end the session. */
export function sectionView({ create, argument }, user, session) {
  const view = create(user, session, argument);
  const links = element("div", { class: "sections" }, navigation("Account", ACCOUNT_SECTIONS));
  if (isAdmin(user)) links.append(navigation("Administration", ADMIN_SECTIONS));
  view.root.prepend(links);
  return view;
}

function isAdmin(user) {
  return user.roles.includes("admin");
}

function navigation(label, sections) {
  const items = Object.entries(sections).map(([id, { name }]) => {
    const link = element("a", { href: `#${id}` }, name);
    if (location.hash === `#${id}`) link.setAttribute("aria-current", "page");
    return element("li", {}, link);
  });
  return element("nav", { "aria-label": label }, element("ul", {}, ...items));
}
