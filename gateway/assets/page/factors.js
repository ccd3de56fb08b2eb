// The view of second factors: authenticator apps, passkeys and recovery codes.
import { call, explain } from "./api.js";
import { formatInstant } from "./dates.js";
import { confirmAction, editLabel, showRecoveryCodes } from "./dialogs.js";
import { fromTemplate, showDialog } from "./dom.js";
import { onPress, onSubmit } from "./form.js";
import { entry, readableName } from "./layout.js";
import { announce, showToast } from "./notice.js";
import { hasPasskeys, passkeyForm } from "./passkeys.js";

const PATH = "/v1/me/factors";
const TYPE_NAMES = { TYPE_TOTP: "Authenticator app", TYPE_PASSKEY: "Passkey" };

/** Creates the view of the second factors. */
export function factorsView() {
  const parts = fromTemplate("factors-view");
  const load = async () => {
    try {
      const { factors, unusedRecoveryCodes } = await call("GET", PATH);
      parts.factors.replaceChildren(...factors.map((factor) => factorItem(factor, load)));
      parts.empty.textContent = factors.length ? "" : "You have none, so a login needs only your password.";
      parts.recovery.hidden = !factors.length;
      parts.codesLeft.textContent = `Unused recovery codes: ${unusedRecoveryCodes}. Each replaces a factor once.`;
      parts.error.textContent = "";
    } catch (error) {
      parts.error.textContent = explain(error);
    }
  };
  onSubmit(parts.form, async ({ label }) => {
    const created = await call("POST", `${PATH}:createTotp`, { body: { label } });
    parts.form.reset();
    showTotp(created, load);
  });
  if (hasPasskeys()) parts.root.append(...passkeyForm(load));
  onPress(parts.newCodes, () => askForNewCodes(load));
  load().then(() => announce("Two-factor login"));
  return { root: parts.root, heading: parts.heading, update: () => {}, title: () => "Two-factor login" };
}

function factorItem(factor, load) {
  const { id, type, label, createTime, lastUseTime } = factor;
  const typeName = TYPE_NAMES[type] ?? readableName(type, "TYPE_");
  const name = label || typeName;
  const used = lastUseTime ? `last used ${formatInstant(lastUseTime)}` : "not used yet";
  const save = async (fields) => {
    await call("PATCH", `${PATH}/${id}`, { body: { label: fields.label } });
    await load();
  };
  const remove = async () => {
    await call("DELETE", `${PATH}/${id}`);
    await load();
  };
  const askToDelete = () => confirmAction({
    heading: `Delete “${name}”?`,
    text: "Without any second factor, a login needs only your password.",
    label: "Delete factor",
    run: remove,
    onDone: () => showToast(`Deleted “${name}”.`),
  });
  return entry({
    title: name,
    badges: label ? [typeName] : [],
    details: [`added ${formatInstant(createTime)} · ${used}`],
    actions: [
      { label: "Rename", name: `Rename ${name}`, run: () => editLabel({ heading: `Rename “${name}”`, label, save }) },
      { label: "Delete", name: `Delete ${name}`, run: askToDelete },
    ],
  });
}

/** Shows the secret of a new authenticator app, and confirms it with a code. */
function showTotp({ factorId, secret, qrSvg }, load) {
  const parts = fromTemplate("totp-dialog");
  parts.qr.src = `data:image/svg+xml,${encodeURIComponent(qrSvg)}`;
  parts.secret.textContent = secret.replace(/(.{4})(?=.)/g, "$1 ");
  onSubmit(parts.root.querySelector("form"), async ({ code }) => {
    const { recoveryCodes } = await call("POST", `${PATH}/${factorId}:confirm`, { body: { code } });
    await load();
    parts.root.close();
    if (recoveryCodes.length) showRecoveryCodes(recoveryCodes);
    else showToast("The app is set up.");
  });
  showDialog(parts);
  parts.code.focus();
}

function askForNewCodes(load) {
  confirmAction({
    heading: "Create new recovery codes?",
    text: "The earlier ones, used or not, stop working.",
    label: "Create new codes",
    run: async () => {
      const { recoveryCodes } = await call("POST", `${PATH}:regenerateRecoveryCodes`, { body: {} });
      await load();
      return recoveryCodes;
    },
    onDone: showRecoveryCodes,
  });
}
