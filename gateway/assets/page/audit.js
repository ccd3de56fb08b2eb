// The view of administrators for the audit events of all accounts, or of one.
import { element } from "./dom.js";
import { KIND_NAMES, eventItem } from "./events.js";
import { createPage, selectField } from "./layout.js";
import { announce } from "./notice.js";
import { pagedList } from "./paging.js";

/** Creates the view of all events, or of those of the account with the id `userId`. */
export function auditView(_user, _session, userId) {
  const events = pagedList({
    label: "Events",
    path: "/v1/admin/auditEvents",
    field: "events",
    emptyText: "No event was found.",
    toItem: (event) => eventItem(event, userId ? [] : [accountLink(event.userId)]),
  });
  const load = (kind) => events.load({ ...(userId && { user_id: userId }), ...(kind && { kind }) });
  const kinds = selectField("Kind of event", { "": "All kinds", ...KIND_NAMES }, load);
  const allAccounts = element("a", { href: "#audit" }, "All accounts");
  const scope = userId ? [element("p", {}, accountLink(userId), " · ", allAccounts)] : [];
  load("").then(() => announce("Audit log"));
  return createPage("Audit log", ...scope, kinds, events.root);
}

/** Returns a link to an account, or an empty text for events of service tokens. */
export function accountLink(id) {
  return id && element("a", { href: `#users=${id}` }, `Account ${id}`);
}
