// One event as the server wants it, put on the queue.

import { VERSION } from "./config.js";
import { ids } from "./identity.js";
import { encode, enqueue } from "./transport.js";
import { currentView } from "./view.js";

// `given` is copied, so that the page may change it afterwards; what JSON cannot hold throws.
export function record(type, given) {
  const view = currentView();
  const event = {
    ...JSON.parse(encode(given)),
    ...ids,
    type,
    context: {
      page: view,
      userAgent: navigator.userAgent,
      locale: navigator.language,
      timezone: Intl.DateTimeFormat().resolvedOptions().timeZone,
      library: { name: "datafly.js", version: VERSION },
    },
    timestamp: new Date().toISOString(),
    messageId: newMessageId(),
  };
  if (type == "page") event.properties = event.properties ? { ...view, ...event.properties } : view;
  enqueue(event);
}

// crypto.randomUUID is missing on plain-http pages.
function newMessageId() {
  return crypto.randomUUID
    ? crypto.randomUUID()
    : "10000000-1000-4000-8000-100000000000".replace(/[018]/g, (digit) =>
        (digit ^ (crypto.getRandomValues(new Uint8Array(1))[0] & (15 >> (digit / 4)))).toString(16),
      );
}
