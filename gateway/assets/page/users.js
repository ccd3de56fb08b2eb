// The views of administrators for accounts: the search, and one account with its sessions.
import { sessionItem } from "./account.js";
import { call, explain } from "./api.js";
import { formatInstant } from "./dates.js";
import { confirmAction } from "./dialogs.js";
import { element, fromTemplate } from "./dom.js";
import { onSubmit } from "./form.js";
import { actionButton, createPage, entry } from "./layout.js";
import { announce, showToast } from "./notice.js";
import { pagedList } from "./paging.js";
import { quoted } from "./search.js";

/** Creates the view of all accounts, or of the one with the id `selectedId`. */
export function usersView(_user, _session, selectedId) {
  return selectedId ? userView(selectedId) : userSearchView();
}

function userSearchView() {
  const form = fromTemplate("user-search").root;
  const users = pagedList({
    label: "Users",
    path: "/v1/admin/users",
    field: "users",
    emptyText: "No account was found.",
    toItem: userItem,
  });
  // Each search is recorded in the audit log, so it starts only when the administrator asks for it.
  onSubmit(form, async ({ email, condition }) => {
    const conditions = [email.trim() && `email:${quoted(email.trim())}`, condition];
    await users.load({ filter: conditions.filter(Boolean).join(" AND ") });
  });
  users.load().then(() => announce("Users"));
  return createPage("Users", form, users.root);
}

function userItem({ id, email, displayName, roles, disabled, createTime }) {
  return entry({
    title: element("a", { href: `#users=${id}` }, email),
    badges: [...roles, ...(disabled ? ["disabled"] : [])],
    details: [[displayName, `since ${formatInstant(createTime)}`].filter(Boolean).join(" · ")],
  });
}

function userView(id) {
  const path = `/v1/admin/users/${id}`;
  const facts = element("dl", { class: "facts" });
  const actions = element("div", { class: "actions" });
  const errorText = element("p", { class: "error", role: "alert" });
  const sessions = element("ul", { class: "entries", "aria-label": "Sessions" });
  const empty = element("p", { class: "empty" });
  const sessionsHeading = element("h2", {}, "Where this user is logged in");
  const view = createPage("User", facts, actions, errorText, sessionsHeading, sessions, empty);

  const load = async () => {
    try {
      const user = await call("GET", path);
      view.heading.textContent = user.email;
      facts.replaceChildren(...userFacts(user));
      actions.replaceChildren(...userActions(user, { apply, deleteFactors }));
      const { sessions: active } = await call("GET", `${path}/sessions`);
      sessions.replaceChildren(...active.map((session) => sessionItem(session)));
      empty.textContent = active.length ? "" : "Nowhere.";
      errorText.textContent = "";
    } catch (error) {
      errorText.textContent = explain(error);
    }
  };
  const showDone = async (note) => {
    await load();
    showToast(note);
    view.heading.focus();
  };
  const apply = async (verb, note) => {
    await call("POST", `${path}:${verb}`, { body: {} });
    await showDone(note);
  };
  const deleteFactors = async () => {
    await call("DELETE", `${path}/factors`);
    await showDone("The second factors of the user are deleted.");
  };
  load().then(() => announce(view.heading.textContent));
  return { ...view, title: () => view.heading.textContent };
}

function userFacts({ id, displayName, emailVerified, roles, disabled, createTime }) {
  const facts = {
    Name: displayName || "none",
    "Email address": emailVerified ? "confirmed" : "not confirmed",
    Roles: roles.join(", ") || "none",
    State: disabled ? "disabled" : "enabled",
    Created: formatInstant(createTime),
    Id: id,
  };
  return Object.entries(facts).flatMap(([name, text]) => [element("dt", {}, name), element("dd", {}, text)]);
}

/** Returns the buttons that change an account. `apply` calls the method with this verb and shows a note. */
function userActions({ id, email, disabled }, { apply, deleteFactors }) {
  const askToDisable = () => confirmAction({
    heading: `Disable ${email}?`,
    text: "All devices of the user are logged out, and the user cannot log in until you enable the account.",
    label: "Disable account",
    run: () => apply("disable", "The account is disabled."),
  });
  const askToLogOut = () => confirmAction({
    heading: `Log out ${email}?`,
    text: "All devices of the user are logged out, and all access tokens of the user end.",
    label: "Log out everywhere",
    run: () => apply("revokeSessions", "All devices of the user are logged out."),
  });
  const askToDeleteFactors = () => confirmAction({
    heading: `Delete the second factors of ${email}?`,
    text: "Logins then need only the password. Make sure that the request comes from the user.",
    label: "Delete second factors",
    run: deleteFactors,
  });
  const enable = { label: "Enable", run: () => apply("enable", "The account is enabled.") };
  return [
    actionButton(disabled ? enable : { label: "Disable", run: askToDisable }),
    actionButton({ label: "Unlock", run: () => apply("unlock", "The count of wrong passwords is reset.") }),
    actionButton({ label: "Log out everywhere", run: askToLogOut }),
    actionButton({ label: "Delete second factors", run: askToDeleteFactors }),
    element("a", { href: `#audit=${id}` }, "Audit log of this account"),
  ];
}
