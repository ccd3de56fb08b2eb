// The view of webhooks: create, list, edit, pause, test, rotate the secret, and delete, with the attempts of each.
import { call, explain } from "./api.js";
import { formatInstant } from "./dates.js";
import { confirmAction, showSecret } from "./dialogs.js";
import { element, fromTemplate } from "./dom.js";
import { onSubmit } from "./form.js";
import { entry } from "./layout.js";
import { announce, showToast } from "./notice.js";
import { pagedList } from "./paging.js";

const PATH = "/v1/webhooks";

/** Creates the view of the webhooks. */
export function webhooksView() {
  const parts = fromTemplate("webhooks-view");
  const load = async () => {
    try {
      const { webhooks } = await call("GET", PATH);
      parts.webhooks.replaceChildren(...webhooks.map((webhook) => webhookItem(webhook, load, showAttempts)));
      parts.empty.textContent = webhooks.length ? "" : "You have no webhooks.";
      parts.error.textContent = "";
    } catch (error) {
      parts.error.textContent = explain(error);
    }
  };
  const showAttempts = async ({ id, url }) => {
    const heading = element("h2", { tabindex: "-1" }, "Attempts");
    const attempts = pagedList({
      label: "Attempts",
      path: `${PATH}/${id}/attempts`,
      field: "attempts",
      emptyText: "Nothing was sent in the last 30 days.",
      toItem: attemptItem,
    });
    await attempts.load();
    parts.attempts.replaceChildren(heading, element("p", { class: "muted" }, url), attempts.root);
    heading.focus();
  };
  onSubmit(parts.form, async ({ url, filter }) => {
    const { secret } = await call("POST", PATH, { body: { url, filter } });
    parts.form.reset();
    showSecret(`The secret of ${url}`, secret);
    await load();
  });
  load().then(() => announce("Webhooks"));
  return { root: parts.root, heading: parts.heading, update: () => {}, title: () => "Webhooks" };
}

function webhookItem(webhook, load, showAttempts) {
  const { url, filter, state, failingSinceTime, createTime } = webhook;
  const isPaused = state === "STATE_PAUSED";
  const action = (text, run) => ({ label: text, name: `${text}: ${url}`, run: () => run(webhook, load) });
  const failing = failingSinceTime && `The receiver has failed since ${formatInstant(failingSinceTime)}.`;
  return entry({
    title: url,
    badges: isPaused ? ["paused"] : failing ? ["failing"] : [],
    details: [
      filter && `only tasks that match ${filter}`,
      `created ${formatInstant(createTime)}`,
      failing && (isPaused ? `${failing} Nothing is sent until you resume it; no change is lost.` : failing),
    ],
    actions: [
      action("Test", testWebhook),
      action("Attempts", showAttempts),
      isPaused ? action("Resume", setState("STATE_ACTIVE", "Changes are sent again.")) : action("Pause", setState("STATE_PAUSED", "Nothing is sent.")),
      action("Rotate secret", rotateSecret),
      action("Delete", deleteWebhook),
    ],
  });
}

function attemptItem({ attemptTime, httpStatus, latency, error, messageId }) {
  const seconds = Number.parseFloat(latency).toFixed(2);
  return entry({
    title: error || `Status ${httpStatus}`,
    badges: error ? ["failed"] : [],
    details: [`${formatInstant(attemptTime)} · ${seconds} s`, element("code", {}, messageId)],
  });
}

async function testWebhook({ id, url }, load) {
  const { error } = await call("POST", `${PATH}/${id}:test`, { body: {} });
  showToast(error ? `The test failed: ${error}.` : `${url} has accepted the test.`);
  await load();
}

function setState(state, done) {
  return async ({ id, etag }, load) => {
    await call("PATCH", `${PATH}/${id}`, { body: { state }, etag });
    showToast(done);
    await load();
  };
}

function rotateSecret({ id, url }, load) {
  confirmAction({
    heading: "Rotate the secret?",
    text: `Messages to ${url} have the signatures of both secrets for 24 hours.`,
    label: "Rotate secret",
    run: () => call("POST", `${PATH}/${id}:rotateSecret`, { body: {} }),
    onDone: ({ secret }) => {
      showSecret(`The new secret of ${url}`, secret);
      load();
    },
  });
}

function deleteWebhook({ id, url }, load) {
  confirmAction({
    heading: "Delete the webhook?",
    text: `Nothing is sent to ${url} any more. This cannot be undone.`,
    label: "Delete webhook",
    run: async () => {
      await call("DELETE", `${PATH}/${id}`);
      await load();
    },
    onDone: () => showToast("Deleted the webhook."),
  });
}
