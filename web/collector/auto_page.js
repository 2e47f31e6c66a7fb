// A page view when the page is shown: on load, and again when the browser brings it back whole.

import { page } from "./api.js";
import { guarded } from "./guard.js";

export function viewOnShow() {
  addEventListener(
    "pageshow",
    guarded((event) => event.persisted && page()),
  );
  page();
}
