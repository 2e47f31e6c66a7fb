// <select-all>: a check box in the table's head that sets all those below it.

class SelectAll extends HTMLElement {
  connectedCallback() {
    const place = this.querySelector("th.select");
    const boxes = [...this.querySelectorAll("td.select input")];
    if (!place || place.querySelector("input")) return;
    const all = document.createElement("input");
    all.type = "checkbox";
    all.setAttribute("aria-label", "Select all on this page");
    all.addEventListener("change", () => boxes.forEach((box) => (box.checked = all.checked)));
    this.addEventListener("change", () => {
      const count = boxes.filter((box) => box.checked).length;
      all.checked = count === boxes.length;
      all.indeterminate = count > 0 && count < boxes.length;
    });
    place.replaceChildren(all);
  }
}

customElements.define("select-all", SelectAll);
