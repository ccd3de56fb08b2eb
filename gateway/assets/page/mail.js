// The view of administrators for mails: those that could not be sent, and all others.
import { accountLink } from "./audit.js";
import { call } from "./api.js";
import { formatInstant } from "./dates.js";
import { createPage, entry, readableName, selectField } from "./layout.js";
import { announce, showToast } from "./notice.js";
import { pagedList } from "./paging.js";

const STATES = {
  STATE_FAILED: "Failed",
  STATE_PENDING: "Waiting for the next attempt",
  STATE_SENT: "Sent",
  STATE_OBSOLETE: "Obsolete",
};

/** Creates the view of the mails. */
export function mailView() {
  const mails = pagedList({
    label: "Mails",
    path: "/v1/admin/mail",
    field: "mails",
    emptyText: "There are no such mails.",
    toItem: (mail) => mailItem(mail, retry),
  });
  let state = "STATE_FAILED";
  const load = (newState) => {
    state = newState;
    return mails.load({ state });
  };
  const retry = async ({ id }) => {
    await call("POST", `/v1/admin/mail/${id}:retry`, { body: {} });
    await load(state);
    showToast("The mail is being sent again.");
    view.heading.focus();
  };
  const view = createPage("Mail", selectField("State", STATES, load), mails.root);
  load(state).then(() => announce("Mail"));
  return view;
}

function mailItem(mail, retry) {
  const { recipient, template, state, attempts, createTime, nextAttemptTime, lastError, userId } = mail;
  const subject = readableName(template);
  const next = nextAttemptTime && `next attempt ${formatInstant(nextAttemptTime)}`;
  const canRetry = ["STATE_FAILED", "STATE_PENDING"].includes(state);
  return entry({
    title: recipient,
    badges: [subject],
    details: [
      [formatInstant(createTime), attempts === 1 ? "1 attempt" : `${attempts} attempts`, next].filter(Boolean).join(" · "),
      lastError,
      accountLink(userId),
    ],
    actions: canRetry ? [{ label: "Send again", name: `Send again: ${subject}, to ${recipient}`, run: () => retry(mail) }] : [],
  });
}
