// <step-editor>: its buttons named `do` change the rows in place, so that secrets typed in the form stay.

class StepEditor extends HTMLElement {
  connectedCallback() {
    this.addEventListener("click", (event) => {
      const button = event.target.closest("button[name=do]");
      if (!button) return;
      event.preventDefault();
      this.press(button);
    });
  }

  press(button) {
    this.inert = true; // what is typed meanwhile would be lost
    const body = new URLSearchParams(new FormData(button.form));
    body.set(button.name, button.value);
    const request = new XMLHttpRequest(); // it reads a document; trusted types forbid that of a text
    request.open("POST", button.form.action);
    request.responseType = "document";
    request.onloadend = () => {
      this.inert = false;
      const made = request.response?.querySelector("step-editor");
      if (made) this.take(made);
      else this.fail(button);
    };
    request.send(body);
  }

  take(made) {
    const before = [...this.querySelectorAll("details")].filter((one) => one.open).map(wordsOf);
    for (const one of made.querySelectorAll("details")) one.open ||= before.includes(wordsOf(one));
    const field = made.querySelector("[autofocus]");
    field?.removeAttribute("autofocus"); // it is for pages that load
    this.replaceChildren(...document.adoptNode(made).childNodes);
    field?.focus();
    field?.scrollIntoView({ block: "nearest" });
  }

  fail(button) {
    this.querySelector("[role=alert]")?.remove();
    const said = document.createElement("p");
    said.className = "problem";
    said.setAttribute("role", "alert");
    said.textContent = "That did not work; nothing that you typed is lost. Are you still signed in, in another tab?";
    button.closest("p, .row").after(said);
    button.focus();
  }
}

// What a group is called, without how many it has.
function wordsOf(details) {
  const summary = details.querySelector("summary");
  return summary.firstChild.textContent + summary.querySelector(".hidden")?.textContent;
}

customElements.define("step-editor", StepEditor);
