// <depends-on>: shows [data-needs="field=value"] only while the field has that value.

class DependsOn extends HTMLElement {
  connectedCallback() {
    this.addEventListener("change", () => this.update());
    this.update();
  }

  update() {
    for (const part of this.querySelectorAll("[data-needs]")) {
      const [name, value] = part.dataset.needs.split("=");
      const field = this.querySelector(`[name="${CSS.escape(name)}"]`);
      const hasProblem = part.querySelector("[aria-invalid]");
      part.hidden = Boolean(field) && field.value !== value && !hasProblem;
    }
  }
}

customElements.define("depends-on", DependsOn);
