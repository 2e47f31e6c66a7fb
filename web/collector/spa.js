// A page view for each navigation inside the page. One navigation can come as several signals
// (pushState with a replaceState after it, popstate with hashchange), so the URL decides.

import { page } from "./api.js";
import { guarded, listen } from "./guard.js";

export function viewOnNavigation() {
  let seen = location.href;
  const onSignal = guarded(() => {
    if (seen != location.href) {
      seen = location.href;
      page();
    }
  });
  for (const name of ["pushState", "replaceState"]) {
    const original = history[name];
    history[name] = function (...args) {
      original.apply(this, args);
      onSignal();
    };
  }
  listen("popstate", onSignal);
  listen("hashchange", onSignal);
}
