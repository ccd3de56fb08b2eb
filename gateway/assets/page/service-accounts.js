// The view of administrators for service accounts: create, list, rotate and delete.
import { UserError, call } from "./api.js";
import { formatDay, formatInstant } from "./dates.js";
import { confirmAction, showSecret } from "./dialogs.js";
import { element, fromTemplate } from "./dom.js";
import { onSubmit } from "./form.js";
import { createPage, entry } from "./layout.js";
import { announce, showToast } from "./notice.js";
import { pagedList } from "./paging.js";
import { serviceScopeFields } from "./scopes.js";

const PATH = "/v1/admin/serviceAccounts";

/** Creates the view of the service accounts. */
export function serviceAccountsView() {
  const accounts = pagedList({
    label: "Service accounts",
    path: PATH,
    field: "serviceAccounts",
    emptyText: "There are no service accounts.",
    toItem: (account) => accountItem(account, accounts.load),
  });
  const { root: form, scopes } = fromTemplate("service-account-form");
  scopes.append(...serviceScopeFields());
  onSubmit(form, async ({ label, certificateName }) => {
    const selected = new FormData(form).getAll("scopes");
    if (!selected.length) throw new UserError("Select at least one scope.");
    const body = { label, scopes: selected, certificateName: certificateName.trim() };
    const created = await call("POST", PATH, { body });
    form.reset();
    if (created.secret) showSecret(`The service account “${created.label}”`, created.secret);
    else showToast(`Created “${created.label}”.`);
    await accounts.load();
  });
  accounts.load().then(() => announce("Service accounts"));
  const note = "A service logs in with the id and the secret of a service account, as a client of OAuth 2.0.";
  const heading = element("h2", {}, "Create a service account");
  return createPage("Service accounts", element("p", { class: "muted" }, note), accounts.root, heading, form);
}

function accountItem(account, load) {
  const { id, label, scopes, certificateName, previousSecretExpireTime, createTime } = account;
  const action = (text, run) => ({ label: text, name: `${text} ${label}`, run: () => run(account, load) });
  const overlap = previousSecretExpireTime && `the old secret is valid until ${formatInstant(previousSecretExpireTime)}`;
  return entry({
    title: label,
    details: [
      scopes.join(" · "),
      `Id ${id}`,
      certificateName && `with a certificate for ${certificateName}`,
      [`created ${formatInstant(createTime)}`, lastUse(account), overlap].filter(Boolean).join(" · "),
    ],
    // A certificate is replaced where it was issued.
    actions: [...(certificateName ? [] : [action("Rotate", rotate)]), action("Delete", remove)],
  });
}

function lastUse({ lastUseDate, lastUseAddress }) {
  if (!lastUseDate) return "not used yet";
  return `last used ${formatDay(lastUseDate)}${lastUseAddress && ` from ${lastUseAddress}`}`;
}

function rotate({ id, label }, load) {
  confirmAction({
    heading: `Rotate the secret of “${label}”?`,
    text: "The service account gets a new secret. If the old one is refused at once, so are its access tokens.",
    label: "Rotate secret",
    content: fromTemplate("overlap-field").root,
    run: async ({ overlap }) => {
      const rotated = await call("POST", `${PATH}/${id}:rotateSecret`, { body: { overlap } });
      await load();
      return rotated;
    },
    onDone: ({ secret }) => showSecret(`The new secret of “${label}”`, secret),
  });
}

function remove({ id, label }, load) {
  confirmAction({
    heading: `Delete “${label}”?`,
    text: "The service is refused within a second, and its tasks are deleted. This cannot be undone.",
    label: "Delete service account",
    run: async () => {
      await call("DELETE", `${PATH}/${id}`);
      await load();
    },
    onDone: () => showToast(`Deleted “${label}”.`),
  });
}
