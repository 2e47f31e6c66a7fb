// <shown-once href="…">: this page is the answer to a form. Reloading it, or coming back to it, must not
// send the form again, so its place in the history becomes the page that it leads to.

class ShownOnce extends HTMLElement {
  connectedCallback() {
    history.replaceState(null, "", this.getAttribute("href"));
  }
}

customElements.define("shown-once", ShownOnce);
