// <password-field>: a button that shows what is typed.

class PasswordField extends HTMLElement {
  connectedCallback() {
    if (this.querySelector("button")) return;
    const input = this.querySelector("input");
    const button = document.createElement("button");
    button.type = "button";
    const show = (isShown) => {
      input.type = isShown ? "text" : "password";
      button.textContent = isShown ? "Hide" : "Show";
      button.setAttribute("aria-pressed", String(isShown));
      button.setAttribute("aria-label", "Show what is typed");
    };
    button.addEventListener("click", () => show(input.type === "password"));
    // A browser offers to keep what was sent from a password field only.
    input.form?.addEventListener("submit", () => show(false));
    show(false);
    this.append(button);
  }
}

customElements.define("password-field", PasswordField);
