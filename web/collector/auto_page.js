// A page view when the page is shown: on load, and again when the browser brings it back whole.

import { page } from "./api.js";
import { listen } from "./guard.js";

export function viewOnShow() {
  listen("pageshow", (event) => event.persisted && page());
  page();
}
