// <reload-soon>: stands on a page about something that is under way, and looks again until it is done.

const FIRST_MS = 700;
const LONGEST_MS = 15000;
const KEY = `reload-soon ${location.pathname}`;

class ReloadSoon extends HTMLElement {
  connectedCallback() {
    const tries = Number(sessionStorage.getItem(KEY)) || 0;
    this.timer = setTimeout(() => {
      sessionStorage.setItem(KEY, String(tries + 1));
      if (!document.hidden && !isBusy()) location.reload();
      else this.connectedCallback();
    }, Math.min(FIRST_MS * 1.5 ** tries, LONGEST_MS));
  }

  disconnectedCallback() {
    clearTimeout(this.timer);
  }
}

// Nothing is taken away from somebody who reads or types.
function isBusy() {
  return getSelection().type === "Range" || document.activeElement?.matches("input, textarea, select");
}

if (!document.querySelector("reload-soon")) sessionStorage.removeItem(KEY);
customElements.define("reload-soon", ReloadSoon);
