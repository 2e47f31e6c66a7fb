// <live-events>: the list of events, kept up to date from the debug stream.
//
// When it connects it asks for the newest events, because some may have come before; then each frame
// adds a row or changes one. Many frames are drawn together, and a page that is paused only counts.
// While frames come it asks again now and then: what the server counts is right, frames are only quick.

import { EventRows } from "./event-rows.js";
import { Stream } from "./stream.js";

const DRAW_MS = 150;
const CATCH_UP_MS = 3000;
const KEPT_FRAMES = 2000;

class LiveEvents extends HTMLElement {
  connectedCallback() {
    if (this.hasAttribute("still")) return;
    this.filters = JSON.parse(this.dataset.filters);
    this.rows = new EventRows(this);
    this.waiting = [];
    this.missed = 0;
    this.refused = { count: 0, last: null };
    this.isPaused = false;
    this.part("bar").hidden = false;
    this.part("toggle").addEventListener("click", () => this.toggle());
    this.stream = new Stream(subscription(this.filters), this);
    this.stream.open();
  }

  disconnectedCallback() {
    this.stream?.close();
    clearTimeout(this.timer);
    clearTimeout(this.later);
  }

  part(name) {
    return this.querySelector(`.live-${name}`);
  }

  // ── What the stream tells ─────────────────────────────────────────────────

  async opened() {
    this.state("Live", true);
    await this.catchUp();
  }

  frame(frame) {
    if (frame.stage === "refused") this.noteRefusal(frame.data);
    else if (this.waiting.push(frame) > KEPT_FRAMES) {
      this.waiting.shift();
      this.missed++;
    }
    this.timer ||= setTimeout(() => this.draw(), DRAW_MS);
    this.later ||= setTimeout(() => this.catchUp(), CATCH_UP_MS);
  }

  missedFrames(count) {
    this.missed += count;
    this.say();
    this.catchUp();
  }

  closed(seconds) {
    this.state(`Not connected. Trying again in ${seconds} s`, false);
  }

  ended() {
    this.state("You are signed out. Log in again to go on", false);
  }

  // ── What the page shows ───────────────────────────────────────────────────

  async catchUp() {
    this.later = clearTimeout(this.later);
    if (this.isPaused) return;
    try {
      const response = await fetch(this.dataset.url, { headers: { Accept: "application/json" } });
      if (response.status === 401) return this.stream.end();
      if (!response.ok) return;
      const { data } = await response.json();
      if (this.isPaused) return;
      this.rows.putAll(data, this.filters);
      this.show();
    } catch {
      // The stream notices too, and comes back here when it is open again.
    }
  }

  draw() {
    this.timer = undefined;
    if (!this.isPaused) {
      for (const frame of this.waiting.splice(0)) this.rows.take(frame, this.filters);
      this.show();
    }
    this.say();
  }

  show() {
    this.part("empty").hidden = !this.rows.isEmpty;
    this.part("table").hidden = this.rows.isEmpty;
  }

  toggle() {
    this.isPaused = !this.isPaused;
    this.part("toggle").textContent = this.isPaused ? "Resume" : "Pause";
    this.draw();
    this.catchUp();
  }

  state(words, isLive) {
    this.words = words;
    this.isLive = isLive;
    this.say();
  }

  say() {
    const fresh = this.waiting.filter((frame) => frame.stage === "processed" || frame.stage === "dropped").length;
    const paused = fresh ? `Paused. ${fresh} more since` : "Paused";
    set(this.part("state"), this.isPaused && this.isLive ? paused : this.words);
    this.part("state").classList.toggle("is-live", this.isLive && !this.isPaused);
    const missed = this.part("missed");
    missed.hidden = !this.missed;
    set(missed, `${this.missed} frames came too fast for this page to show. Nothing is lost: reload for the list.`);
    this.part("refused").hidden = !this.refused.count;
    set(this.part("refused").firstElementChild, `${this.refused.count} refused since this page was opened, the last one: ${this.refused.last}.`);
  }

  noteRefusal(data) {
    this.refused.count++;
    this.refused.last = `${data.code} (${data.message})`;
  }
}

// A live region must not be spoken again for the same words.
function set(element, words) {
  if (element.textContent !== words) element.textContent = words;
}

// The stream's other filters would hide the frames of deliveries, which do not name the event's type.
function subscription({ pipeline_id, message_id }) {
  return Object.fromEntries(Object.entries({ pipeline_id, message_id }).filter(([, value]) => value));
}

customElements.define("live-events", LiveEvents);
