// <copy-button for="id" what="the key">: copies the text of the element with that id.

class CopyButton extends HTMLElement {
  connectedCallback() {
    if (this.firstChild) return;
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = "Copy";
    button.setAttribute("aria-label", `Copy ${this.getAttribute("what")}`);
    const said = document.createElement("span");
    said.className = "hidden";
    said.setAttribute("role", "status");
    button.addEventListener("click", () => this.copy(button, said));
    this.append(button, said);
  }

  async copy(button, said) {
    const source = document.getElementById(this.getAttribute("for"));
    const done = await written(source);
    button.textContent = done ? "Copied" : "Press Ctrl+C";
    said.textContent = done ? `Copied ${this.getAttribute("what")}` : "Selected: press Ctrl+C";
    setTimeout(() => {
      button.textContent = "Copy";
      said.textContent = "";
    }, 2000);
  }
}

// The clipboard is there on https and on localhost only; elsewhere the text is selected for the person.
async function written(source) {
  try {
    await navigator.clipboard.writeText(source.textContent);
    return true;
  } catch {
    getSelection().selectAllChildren(source);
    return false;
  }
}

customElements.define("copy-button", CopyButton);
