// The scopes of personal access tokens and of service accounts: what each permits, and the form fields in which they are
// selected.
import { element } from "./dom.js";

const SCOPES = [
  { name: "tasks.read", text: "Read your tasks and lists" },
  { name: "tasks.write", text: "Create, change and delete your tasks and lists" },
  { name: "account.read", text: "Read your account, where you are logged in, and your security events" },
  { name: "account.write", text: "Change your name and log out devices, but not change passwords or tokens" },
  { name: "admin.read", text: "Read all accounts and the audit log", role: "admin" },
  { name: "admin.write", text: "Disable, enable and log out all accounts, and change their roles", role: "admin" },
  { name: "tokens.verify", text: "Verify the tokens of all users", role: "verifier" },
];

const SERVICE_SCOPES = [
  { name: "tasks.read", text: "Read its own tasks and lists, and those of users for whom it acts" },
  { name: "tasks.write", text: "Create, change and delete these tasks and lists" },
  { name: "clients.forward", text: "Act for users who call the service" },
  { name: "tokens.verify", text: "Verify the tokens of all users" },
  { name: "admin.read", text: "Read all accounts and the audit log" },
  { name: "admin.write", text: "Disable, enable and log out all accounts" },
];

/** Returns what a scope permits. */
export const scopeText = (name) => SCOPES.find((scope) => scope.name === name)?.text ?? name;

/** Returns a checkbox for each scope that an account with these roles can give to a token. */
export function scopeFields(roles) {
  return checkboxes(SCOPES.filter(({ role }) => !role || roles.includes(role)));
}

/** Returns a checkbox for each scope that a service account can have. */
export function serviceScopeFields() {
  return checkboxes(SERVICE_SCOPES);
}

function checkboxes(scopes) {
  return scopes.map(({ name, text }) => {
    const checkbox = element("input", { type: "checkbox", name: "scopes", value: name });
    return element("label", { class: "choice" }, checkbox, element("span", {}, element("code", {}, name), `: ${text}`));
  });
}
