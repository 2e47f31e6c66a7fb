// Reads the script tag, takes the global's place and replays what was called before the script came.

import { methods } from "./api.js";
import { ENDPOINT, GLOBAL_VARIABLE, PIPELINE_KEY, VERSION } from "./config.js";
import { guarded, listen, warn } from "./guard.js";
import { loadIds } from "./identity.js";
import { connect, flushOnHide, isHidden } from "./transport.js";

export const start = guarded((features) => {
  // currentScript is null in modules.
  const script = document.currentScript || document.querySelector("script[data-pipeline-key]") || { dataset: {} };
  const { global: name = GLOBAL_VARIABLE, endpoint = ENDPOINT, pipelineKey = PIPELINE_KEY } = script.dataset;
  const api = (window[name] = window[name] || []);
  if (api.version) return;
  if (!Array.isArray(api)) return warn(`window.${name} is taken: choose another data-global`);
  if (!pipelineKey) warn("no data-pipeline-key: nothing is sent");
  connect((endpoint || new URL(script.src || location.href).origin).replace(/\/$/, ""), pipelineKey);
  loadIds();
  serve(api, features);
});

// The stub's array becomes the API itself, so that a reference taken before the script came stays good.
// A prerendered page may never be seen: until it is, calls only wait.
function serve(api, features) {
  let waiting = api.splice(0);
  const run = guarded(([name, ...args]) => methods[name](...args));
  const begin = () => {
    const calls = waiting;
    waiting = 0;
    features.forEach((feature) => guarded(feature)());
    calls.forEach(run);
  };
  // An assignment would throw where the page has frozen Array.prototype.
  Object.defineProperty(api, "push", { value: (call) => void (waiting ? waiting.push(call) : run(call)) });
  for (const name in methods) api[name] = (...args) => api.push([name, ...args]);
  api.version = VERSION;
  listen("pagehide", () => flushOnHide(1));
  listen("visibilitychange", () => isHidden() && flushOnHide());
  if (document.prerendering) listen("prerenderingchange", begin);
  else begin();
}
