// The rows of the live list, cloned from the page's own templates: the markup stands in one place.

const KEPT_ROWS = 200;
const KEPT_ARRIVALS = 5000;
const LONGEST_PATH = 300;
const FIELDS = ["type", "event", "user_id", "anonymous_id", "pipeline_id", "message_id"];

export class EventRows {
  constructor(list) {
    this.body = list.querySelector("tbody");
    this.template = list.querySelector("template.live-row");
    this.badges = new Map([...list.querySelectorAll("template.live-badge")].map((one) => [one.dataset.state, one]));
    this.names = new Map([...document.querySelectorAll("#pipeline_id option")].map((one) => [one.value, one.textContent]));
    this.known = new Map([...this.body.rows].map((row) => [row.dataset.key, row]));
    this.ways = new Map();
    this.arrivals = new Map();
  }

  get isEmpty() {
    return !this.body.rows.length;
  }

  // A frame of the stream. An event is shown once it is processed, under the time when it came.
  take(frame, filters) {
    const key = keyOf(frame);
    if (frame.stage === "received") {
      if (this.arrivals.size > KEPT_ARRIVALS) this.arrivals.clear();
      this.arrivals.set(key, { received_at: frame.timestamp, path: pathOf(frame.data) });
    } else if (frame.stage === "processed" || frame.stage === "dropped") {
      if (!isWanted({ ...frame, ...frame.data }, filters)) return void this.arrivals.delete(key);
      const pending = frame.data.integrations?.length ?? 0;
      const arrival = this.arrivals.get(key) ?? { received_at: frame.timestamp };
      this.put({ ...frame.data, ...frame, ...arrival, drop_reason: frame.data.reason, deliveries: { pending } }, true);
    } else if (frame.stage === "response" && this.known.has(key)) {
      this.note(key, frame.data);
    }
  }

  // What /live/data gives, the newest first. With a status asked for, rows can leave the list too.
  putAll(events, filters) {
    if (filters.status) [...this.body.rows].forEach((row) => this.forget(row));
    for (const event of events) this.put(event, false);
  }

  // An event as /live/data gives it: a new row in its place, or the newer state of one that is there.
  put(event, isNew) {
    const key = keyOf(event);
    const row = this.known.get(key) ?? this.add(key, event, isNew);
    fillTime(row.querySelector("time"), event.received_at);
    if (event.path) row.cells[1].firstElementChild.textContent = nameOf(event);
    this.ways.set(key, { ...event.deliveries });
    this.arrivals.delete(key);
    this.drawDeliveries(row, event.drop_reason, event.deliveries);
  }

  add(key, event, isNew) {
    const row = this.template.content.firstElementChild.cloneNode(true);
    const [, name, type, who, pipeline] = row.cells;
    row.dataset.key = key;
    row.classList.toggle("is-new", isNew);
    link(name.firstElementChild, `/live/${part(event.pipeline_id)}/${part(event.message_id)}`, nameOf(event));
    type.textContent = event.type ?? "";
    fillWho(who, event);
    link(pipeline.firstElementChild, `/pipelines/${part(event.pipeline_id)}`, event.pipeline_name || this.names.get(event.pipeline_id) || event.pipeline_id);
    this.body.insertBefore(row, this.placeOf(event.received_at));
    this.known.set(key, row);
    while (this.body.rows.length > KEPT_ROWS) this.forget(this.body.lastElementChild);
    return row;
  }

  // The list is the newest first; ISO times compare as texts. Null is the end.
  placeOf(time) {
    return [...this.body.rows].find((row) => row.querySelector("time").dateTime <= time) ?? null;
  }

  forget(row) {
    this.known.delete(row.dataset.key);
    this.ways.delete(row.dataset.key);
    row.remove();
  }

  // One delivery moved on: from pending to what its answer made of it.
  note(key, data) {
    const counts = this.ways.get(key);
    if (!counts || !counts.pending || data.delivery_status === "pending") return;
    counts.pending--;
    counts[data.delivery_status] = (counts[data.delivery_status] ?? 0) + 1;
    this.drawDeliveries(this.known.get(key), null, counts);
  }

  drawDeliveries(row, dropReason, counts) {
    const cell = row.querySelector(".deliveries");
    if (dropReason) return cell.replaceChildren(this.badge("dropped", `dropped: ${dropReason}`));
    const shown = Object.entries(counts).filter(([, number]) => number);
    if (!shown.length) return cell.replaceChildren(quiet("none"));
    cell.replaceChildren(...shown.flatMap(([state, number]) => [this.badge(state, `${number} ${state}`), " "]));
  }

  badge(state, words) {
    const badge = this.badges.get(state).content.firstElementChild.cloneNode(true);
    badge.lastChild.textContent = ` ${words}`;
    return badge;
  }
}

function keyOf({ pipeline_id, message_id }) {
  return `${pipeline_id} ${message_id}`;
}

// As the server's list has it: a name, else the path of a page view, else the type.
function nameOf({ event, path, type }) {
  return event || path || `(${type})`;
}

function pathOf({ type, properties, context }) {
  const paths = type === "page" ? [properties?.path, context?.page?.path] : [];
  return paths.find((path) => typeof path === "string" && path)?.slice(0, LONGEST_PATH);
}

function isWanted(data, filters) {
  return !filters.status && FIELDS.every((name) => !filters[name] || data[name] === filters[name]);
}

function part(text) {
  return encodeURIComponent(text);
}

function link(element, href, text) {
  element.href = href;
  element.textContent = text;
}

function fillTime(element, iso) {
  element.dateTime = iso;
  element.title = iso;
  const [date, clock] = element.children;
  [date.textContent, clock.textContent] = iso.replace("Z", "").split("T");
}

function fillWho(cell, { user_id, anonymous_id }) {
  const [name, id, words] = user_id ? ["user_id", user_id, "User"] : ["anonymous_id", anonymous_id, "Anonymous"];
  if (!id) return cell.replaceChildren(quiet("nobody"));
  link(cell.firstElementChild, `/live?${name}=${part(id)}`, id);
  cell.firstElementChild.title = `${words} ${id}`;
  cell.firstElementChild.classList.toggle("quiet", !user_id);
}

function quiet(words) {
  const span = document.createElement("span");
  span.className = "quiet";
  span.textContent = words;
  return span;
}
