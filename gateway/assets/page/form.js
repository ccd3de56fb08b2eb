// What all forms do: check their fields, send once, and say beside the fields what was wrong.
import { explain } from "./api.js";

/** Has a form call `send` with its fields. What `send` throws is shown in the form. */
export function onSubmit(form, send) {
  const fault = form.querySelector(".fault");
  // What is wrong is said in the page, where screen readers find it.
  form.noValidate = true;
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const button = form.querySelector("button.primary, button.danger, button:not([type=button])");
    if (button.ariaDisabled) return;
    const missing = form.querySelector(":invalid:not(fieldset)");
    if (missing) return complain(fault, missing, missing.validationMessage);
    if (fault) fault.textContent = "";
    for (const field of form.querySelectorAll("[aria-invalid]")) field.removeAttribute("aria-invalid");
    // One that is really disabled would lose the focus.
    button.ariaDisabled = "true";
    try {
      await send(Object.fromEntries(new FormData(form)));
    } catch (error) {
      complain(fault, fieldAtFault(form, error), explain(error));
    } finally {
      button.ariaDisabled = null;
    }
  });
}

function complain(fault, field, text) {
  if (fault) fault.textContent = text;
  if (!field) return;
  field.setAttribute("aria-invalid", "true");
  field.focus();
}

function fieldAtFault(form, error) {
  const path = error.fields?.[0]?.field ?? (error.reason === "PASSWORD_REJECTED" ? "newPassword" : "");
  const name = path.split(".").at(-1).replace(/_(\w)/g, (_, letter) => letter.toUpperCase()).replace(/\[.*/, "");
  return name && form.elements[name];
}
