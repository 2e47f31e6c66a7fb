// Nothing that goes wrong in the collector may reach the page: it is said in the console, once a kind.

const said = {};

export function warn(text, ...details) {
  if (!said[text]) {
    said[text] = 1;
    console.warn("datafly.js: " + text, ...details);
  }
}

export function guarded(work) {
  return (...args) => {
    try {
      work(...args);
    } catch (error) {
      warn("a call failed", error);
    }
  };
}

// On the window and before the page's own listeners, which also sees what is sent to the document.
export function listen(name, work) {
  addEventListener(name, guarded(work), true);
}
