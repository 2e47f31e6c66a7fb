// From the queue to the server: one request under way, so that events arrive in their order.

import { BATCH_SIZE, FLUSH_INTERVAL_MS } from "./config.js";
import { warn } from "./guard.js";
import { currentView } from "./view.js";

// A browser lets 64 KiB of keepalive requests and beacons be under way on a page, the page's own
// among them, and fails what goes beyond. Half of it is ours.
const CHUNK_SIZE_BYTES = 32000;
const QUEUE_LIMIT = 1000;

let queue = [];
let url;
let writeKey;
let timer;
let due;
let paused;
let busy = 0;
let failures = 0;

export function connect(endpoint, key) {
  url = endpoint + "/v1/batch";
  writeKey = key;
}

export function enqueue(event) {
  if (!writeKey) return;
  if (queue.push(event) > QUEUE_LIMIT) {
    queue.shift();
    warn("queue full: oldest events dropped");
  }
  schedule();
}

// A hidden page may be gone before a timer fires.
function schedule() {
  if (due || queue.length >= BATCH_SIZE || isHidden()) flush();
  else if (queue[0]) timer = timer || setTimeout(flush, FLUSH_INTERVAL_MS);
}

export function flush() {
  timer = clearTimeout(timer);
  due = queue[0];
  if (due && !paused && (!busy || isHidden())) {
    post(takeBatch());
    due = queue[0];
  }
}

// A beacon outlives the page that goes for good, but tells nothing of its answer. A page that is only
// hidden mostly comes back: a request, with keepalive too, can return to its queue when the server fails.
export function flushOnHide(isLeaving) {
  while (queue[0]) {
    const batch = takeBatch();
    if (!isLeaving || failures || !navigator.sendBeacon || !navigator.sendBeacon(url, batch.body)) post(batch);
  }
}

export function isHidden() {
  return document.visibilityState == "hidden";
}

// The next events, up to BATCH_SIZE and CHUNK_SIZE_BYTES, but always one.
function takeBatch() {
  currentView();
  const texts = [];
  let size = 0;
  for (const event of queue.slice(0, BATCH_SIZE)) {
    const text = encode(event);
    size += new Blob([text]).size;
    if (texts[0] && size > CHUNK_SIZE_BYTES) break;
    texts.push(text);
  }
  return {
    events: queue.splice(0, texts.length),
    body: `{"writeKey":${encode(writeKey)},"sentAt":${encode(new Date().toISOString())},"batch":[${texts}]}`,
    keepalive: size <= CHUNK_SIZE_BYTES,
  };
}

// JSON.stringify writes a lone surrogate, such as half an emoji, as an escape that strict decoders
// refuse together with the whole batch. An escaped backslash is matched too, to be stepped over.
export function encode(value) {
  return JSON.stringify(value, unbent).replace(/\\(\\|ud[89a-f]..)/g, (escape, rest) => (rest[1] ? "\\ufffd" : escape));
}

// Old libraries give lists and texts a toJSON that makes another text of them.
function unbent(key, value) {
  const own = this[key];
  return typeof own == "string" || Array.isArray(own) ? own : value;
}

// A string as the body goes out as text/plain, which needs no preflight.
async function post({ events, body, keepalive }) {
  busy++;
  try {
    const response = await fetch(url, { method: "POST", body, keepalive, credentials: "include" });
    const status = response.status;
    const answer = await response.text();
    if (status == 408 || status == 429 || status > 499) retry(events, response.headers.get("Retry-After"));
    else {
      failures = 0;
      if (!response.ok) warn("events dropped: check the pipeline key and its allowed domains", status, answer);
      else if (/"rejected": *[1-9]/.test(answer)) warn("events rejected", answer);
    }
  } catch (error) {
    warn("no connection, will retry; is it in the CSP's connect-src, and this site in the pipeline's allowed domains?", url, error);
    retry(events);
  }
  busy--;
  schedule();
}

// Waits 1, 2, 4 ... 64 s with jitter, longer where the server says so, but never over an hour.
function retry(events, retryAfter) {
  queue = events.concat(queue);
  paused = 1;
  const backoff = 2 ** Math.min(failures++, 6) * (0.5 + Math.random() / 2);
  setTimeout(() => {
    paused = 0;
    flush();
  }, Math.min(Math.max(parseInt(retryAfter) || 0, backoff), 3600) * 1000);
}
