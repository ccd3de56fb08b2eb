// The view of personal access tokens: create, list, edit, rotate and delete.
import { UserError, call, explain } from "./api.js";
import { dayOf, formatDay, formatInstant } from "./dates.js";
import { confirmAction, editLabel, showSecret } from "./dialogs.js";
import { fromTemplate } from "./dom.js";
import { onSubmit } from "./form.js";
import { entry } from "./layout.js";
import { announce, showToast } from "./notice.js";
import { scopeFields } from "./scopes.js";

const PATH = "/v1/me/personalAccessTokens";
const DEFAULT_LIFETIME_DAYS = 90;
const MAX_LIFETIME_DAYS = 365;

/** Creates the view of the tokens of a user. */
export function tokensView(user) {
  const parts = fromTemplate("tokens-view");
  const load = async () => {
    try {
      const { personalAccessTokens: tokens } = await call("GET", PATH);
      parts.tokens.replaceChildren(...tokens.map((token) => tokenItem(token, load)));
      parts.empty.textContent = tokens.length ? "" : "You have no access tokens.";
      parts.error.textContent = "";
    } catch (error) {
      parts.error.textContent = explain(error);
    }
  };
  const { expireDate } = parts.form.elements;
  expireDate.min = dayAfter(1);
  expireDate.max = dayAfter(MAX_LIFETIME_DAYS);
  expireDate.defaultValue = dayAfter(DEFAULT_LIFETIME_DAYS);
  parts.scopes.append(...scopeFields(user.roles));
  onSubmit(parts.form, async (fields) => {
    const scopes = new FormData(parts.form).getAll("scopes");
    if (!scopes.length) throw new UserError("Select at least one scope.");
    const expireTime = new Date(`${fields.expireDate}T23:59:59`).toISOString();
    const body = { label: fields.label, scopes, expireTime, networks: networksIn(fields.networks) };
    const { secret, label } = await call("POST", PATH, { body });
    parts.form.reset();
    showSecret(`The new token “${label}”`, secret);
    await load();
  });
  load().then(() => announce("Access tokens"));
  return { root: parts.root, heading: parts.heading, update: () => {}, title: () => "Access tokens" };
}

function tokenItem(token, load) {
  const { label, scopes, expireTime, networks } = token;
  const action = (text, run) => ({ label: text, name: `${text} ${label}`, run: () => run(token, load) });
  return entry({
    title: label,
    details: [
      scopes.join(" · "),
      `${lastUse(token)} · expires ${formatInstant(expireTime)}`,
      networks.length > 0 && `only from ${networks.join(", ")}`,
    ],
    actions: [action("Edit", editToken), action("Rotate", rotateToken), action("Delete", deleteToken)],
  });
}

function lastUse({ lastUseDate, lastUseAddress }) {
  if (!lastUseDate) return "not used yet";
  return `last used ${formatDay(lastUseDate)}${lastUseAddress && ` from ${lastUseAddress}`}`;
}

function editToken({ id, label, networks }, load) {
  const save = async (fields) => {
    await call("PATCH", `${PATH}/${id}`, { body: { label: fields.label, networks: networksIn(fields.networks) } });
    await load();
  };
  editLabel({ heading: `Edit “${label}”`, label, networks, save });
}

function rotateToken({ id, label }) {
  confirmAction({
    heading: `Rotate “${label}”?`,
    text: "The token gets a new secret. Programs that use the old one are refused within a second.",
    label: "Rotate token",
    run: () => call("POST", `${PATH}/${id}:rotate`, { body: {} }),
    onDone: ({ secret }) => showSecret(`The new secret of “${label}”`, secret),
  });
}

function deleteToken({ id, label }, load) {
  confirmAction({
    heading: `Delete “${label}”?`,
    text: "Programs that use the token are refused within a second. This cannot be undone.",
    label: "Delete token",
    run: async () => {
      await call("DELETE", `${PATH}/${id}`);
      await load();
    },
    onDone: () => showToast(`Deleted “${label}”.`),
  });
}

/** Returns the networks in a text: one per line, or separated by commas. */
function networksIn(text) {
  return text.split(/[\s,]+/).filter(Boolean);
}

function dayAfter(days) {
  const date = new Date();
  date.setDate(date.getDate() + days);
  return dayOf(date);
}
