// The field in which users prove their identity: with the password, a code of an app, or a recovery code.

export const FIELDS = {
  currentPassword: {
    name: "currentPassword", label: "Password", type: "password", autocomplete: "current-password", inputMode: "text",
  },
  totpCode: {
    name: "totpCode", label: "Code of your app", type: "text", autocomplete: "one-time-code", inputMode: "numeric",
  },
  recoveryCode: {
    name: "recoveryCode", label: "Recovery code", type: "text", autocomplete: "off", inputMode: "text",
  },
};

/** Shows the first of some fields in the parts of a form, and makes its button show the next one. */
export function showField({ input, inputLabel, switchField }, fields) {
  let index = 0;
  const show = () => {
    const { label, ...properties } = fields[index];
    inputLabel.textContent = label;
    Object.assign(input, properties, { value: "" });
    switchField.textContent = `${fields[(index + 1) % fields.length].label} instead`;
  };
  switchField.hidden = fields.length < 2;
  switchField.addEventListener("click", () => {
    index = (index + 1) % fields.length;
    show();
    input.focus();
  });
  show();
}
