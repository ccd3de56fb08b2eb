// Security events: each as a sentence, and the view of those of the own account.
import { formatInstant } from "./dates.js";
import { element } from "./dom.js";
import { createPage, entry, readableName } from "./layout.js";
import { announce } from "./notice.js";
import { pagedList } from "./paging.js";
import { deviceName } from "./session.js";

const ATTEMPTS = {
  KIND_PASSWORD_CHANGED: "change the password",
  KIND_EMAIL_CHANGED: "change the email address",
  KIND_ACCOUNT_DELETED: "delete the account",
  KIND_REAUTHENTICATED: "prove the identity again",
};

const SENTENCES = {
  KIND_SIGN_UP: "The account was created",
  KIND_LOGIN: "A device logged in",
  KIND_LOGIN_FAILED: ({ occurrences }) => (occurrences ? `${occurrences} logins failed` : "A login failed"),
  KIND_LOGOUT: "A device logged out",
  KIND_REFRESH_REUSED: "A session was copied, perhaps by a thief, so it was ended",
  KIND_PASSWORD_CHANGED: "The password was changed, and all other devices were logged out",
  KIND_ACCOUNT_DELETED: "The account was deleted",
  KIND_USER_DISABLED: "The account was disabled",
  KIND_USER_ENABLED: "The account was enabled",
  KIND_ROLES_CHANGED: ({ roles }) => (roles ? `The roles were changed to: ${roles}` : "All roles were removed"),
  KIND_SESSIONS_REVOKED: "Devices were logged out",
  KIND_CURRENT_PASSWORD_WRONG: ({ attempted }) =>
    `A wrong password was sent to ${ATTEMPTS[attempted] ?? "change the account"}`,
  KIND_SERVICE_TOKEN_ISSUED: ({ service }) => `A token was issued to the service ${service}`,
  KIND_SERVICE_TOKENS_REVOKED: ({ service }) => `The tokens of the service ${service} were revoked`,
  KIND_ADMIN_READ: ({ rpc, user_id: id, filter }) => {
    const words = [rpc, id && `for the account ${id}`, filter && `with ${filter}`];
    return `An administrator called ${words.filter(Boolean).join(" ")}`;
  },
  KIND_USER_UNLOCKED: "The count of wrong passwords was reset",
  KIND_PERSONAL_ACCESS_TOKEN_CREATED: ({ scopes }) => `An access token was created: ${scopes}`,
  KIND_PERSONAL_ACCESS_TOKEN_UPDATED: "An access token was edited",
  KIND_PERSONAL_ACCESS_TOKEN_ROTATED: "An access token got a new secret",
  KIND_PERSONAL_ACCESS_TOKEN_DELETED: "An access token was deleted",
  KIND_EMAIL_VERIFIED: "The email address was confirmed",
  KIND_PASSWORD_RESET: "The password was reset by mail, and all devices were logged out",
  KIND_EMAIL_CHANGED: "The email address was changed",
  KIND_EMAIL_CHANGE_UNDONE: "The earlier email address was restored, and all devices were logged out",
  KIND_MAIL_RETRIED: "A mail was sent again",
  KIND_FACTOR_ADDED: "A second factor was added",
  KIND_FACTOR_UPDATED: "A second factor got another name",
  KIND_FACTOR_DELETED: "A second factor was deleted",
  KIND_RECOVERY_CODES_REGENERATED: "The recovery codes were replaced",
  KIND_REAUTHENTICATED: "The password, a code or a passkey was used to prove the identity again",
  KIND_FACTOR_CODE_WRONG: "A wrong code of a second factor was entered",
  KIND_USER_FACTORS_DELETED: "All second factors were deleted",
  KIND_PASSKEY_CLONE_SUSPECTED: "A passkey was used that may have been copied",
  KIND_SERVICE_ACCOUNT_CREATED: ({ label, scopes }) => `The service account ${label} was created: ${scopes}`,
  KIND_SERVICE_ACCOUNT_SECRET_ROTATED: ({ label }) => `The service account ${label} got a new secret`,
  KIND_SERVICE_ACCOUNT_DELETED: ({ label }) => `The service account ${label} was deleted`,
  KIND_TOKEN_EXCHANGED: ({ scopes }) => `A service got a token to act for the account: ${scopes}`,
  KIND_DEVICE_APPROVED: ({ client_id: id, device_address: address }) => `The device ${id} at ${address} was allowed to log in`,
  KIND_DEVICE_DENIED: ({ client_id: id, device_address: address }) => `The device ${id} at ${address} was refused`,
};

/** The names of the kinds of events, for a selection. */
export const KIND_NAMES = Object.fromEntries(Object.keys(SENTENCES).map((kind) => [kind, readableName(kind, "KIND_")]));

/** Creates the item of an event, with further details. */
export function eventItem({ kind, details, actorId, userId, ipAddress, userAgent, createTime }, moreDetails = []) {
  // Newer servers have further kinds.
  const sentence = SENTENCES[kind] ?? readableName(kind, "KIND_");
  const isByOther = Boolean(actorId && userId && actorId !== userId);
  const actor = kind === "KIND_TOKEN_EXCHANGED" ? "by a service" : "by an administrator";
  return entry({
    title: typeof sentence === "function" ? sentence(details) : sentence,
    badges: isByOther ? [actor] : [],
    details: [
      [formatInstant(createTime), ipAddress, deviceName(userAgent) || userAgent].filter(Boolean).join(" · "),
      ...moreDetails,
    ],
  });
}

/** Creates the view of the security events of the own account. */
export function eventsView() {
  const events = pagedList({
    label: "Security events",
    path: "/v1/me/securityEvents",
    field: "events",
    emptyText: "Nothing has happened yet.",
    toItem: (event) => eventItem(event),
  });
  events.load().then(() => announce("Security events"));
  const note = "What happened to your account in the last 400 days. If it was not you, change your password.";
  return createPage("Security events", element("p", { class: "muted" }, note), events.root);
}
