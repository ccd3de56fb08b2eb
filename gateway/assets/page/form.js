// What all forms do: check their fields, submit once at a time, and show errors beside the fields. Buttons likewise.
import { explain } from "./api.js";
import { showToast } from "./notice.js";

/** Calls `send` with the fields of a form when it is submitted. Shows errors that `send` throws in the form. */
export function onSubmit(form, send) {
  const errorText = form.querySelector(".error");
  // Errors are shown in the page, where screen readers find them, instead of in the browser's popups.
  form.noValidate = true;
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const button = form.querySelector("button.primary, button.danger, button:not([type=button])");
    if (button.ariaDisabled) return;
    const invalidField = form.querySelector(":invalid:not(fieldset)");
    if (invalidField) return showError(errorText, invalidField, invalidField.validationMessage);
    if (errorText) errorText.textContent = "";
    for (const field of form.querySelectorAll("[aria-invalid]")) field.removeAttribute("aria-invalid");
    // A button with the `disabled` attribute would lose the focus.
    button.ariaDisabled = "true";
    try {
      await send(Object.fromEntries(new FormData(form)));
    } catch (error) {
      showError(errorText, rejectedField(form, error), explain(error));
    } finally {
      button.ariaDisabled = null;
    }
  });
}

/** Calls `run` when a button is pressed, once at a time. Shows errors that `run` throws, by default as a toast. */
export function onPress(button, run, show = showToast) {
  button.addEventListener("click", async () => {
    if (button.ariaDisabled) return;
    button.ariaDisabled = "true";
    try {
      await run();
    } catch (error) {
      show(explain(error));
    } finally {
      button.ariaDisabled = null;
    }
  });
}

function showError(errorText, field, message) {
  if (errorText) errorText.textContent = message;
  if (!field) return;
  field.setAttribute("aria-invalid", "true");
  field.focus();
}

/** Returns the form field that the API rejected, if any. */
function rejectedField(form, error) {
  const path = error.fields?.[0]?.field ?? (error.reason === "PASSWORD_REJECTED" ? "newPassword" : "");
  const name = path.split(".").at(-1).replace(/_(\w)/g, (_, letter) => letter.toUpperCase()).replace(/\[.*/, "");
  const field = name && form.elements[name];
  return field instanceof RadioNodeList ? field[0] : field;
}
