// <expression-check action="/path">: says whether the expression in its text area can be read, while it is typed.

const WAIT_MS = 400;

class ExpressionCheck extends HTMLElement {
  connectedCallback() {
    this.area = this.querySelector("textarea");
    if (!this.area || this.area.matches(":disabled")) return;
    this.said = document.createElement("div");
    this.said.setAttribute("role", "status");
    this.append(this.said);
    this.area.addEventListener("input", () => {
      clearTimeout(this.timer);
      this.timer = setTimeout(() => this.check(), WAIT_MS);
    });
  }

  async check() {
    const expression = this.area.value;
    if (!expression.trim()) return this.say();
    const body = new URLSearchParams({ expression });
    const headers = { Accept: "application/json" };
    try {
      const answer = await fetch(this.getAttribute("action"), { method: "POST", body, headers });
      if (answer.ok && this.area.value === expression) this.say(await answer.json());
    } catch {
      this.say(); // saving tells it all the same
    }
  }

  say(found) {
    for (const old of this.querySelectorAll(".problem, .pointer")) old.remove();
    this.area.removeAttribute("aria-invalid");
    this.said.replaceChildren();
    if (!found) return;
    const words = found.valid ? "Can be read." : `${found.message}, at character ${found.position}`;
    this.said.append(paragraph("p", found.valid ? "good" : "problem", words[0].toUpperCase() + words.slice(1)));
    if (found.valid) return;
    this.area.setAttribute("aria-invalid", "true");
    if (found.pointer) this.said.append(paragraph("pre", "pointer", found.pointer));
  }
}

function paragraph(tag, name, text) {
  const made = document.createElement(tag);
  made.className = name;
  made.textContent = text;
  return made;
}

customElements.define("expression-check", ExpressionCheck);
