// The debug stream as a WebSocket that comes back by itself: after 1, 2, 4 … 30 s, with some chance in it.

const FIRST_S = 1;
const LONGEST_S = 30;
const REFUSED = 1008;

export class Stream {
  // `reader` has opened(), frame(frame), missedFrames(count), closed(seconds) and ended().
  constructor(filters, reader) {
    this.filters = filters;
    this.reader = reader;
    this.failures = 0;
    this.isOver = false;
  }

  open() {
    const url = new URL("/v1/admin/debug/stream", location.href);
    url.protocol = url.protocol.replace("http", "ws");
    this.socket = new WebSocket(url);
    this.socket.addEventListener("open", () => {
      this.failures = 0;
      this.socket.send(JSON.stringify({ action: "subscribe", filters: this.filters }));
      this.reader.opened();
    });
    this.socket.addEventListener("message", ({ data }) => this.read(JSON.parse(data)));
    this.socket.addEventListener("close", ({ code }) => this.again(code));
  }

  read(message) {
    if (message.missed) this.reader.missedFrames(message.missed);
    else if (message.stage) this.reader.frame(message);
  }

  async again(code) {
    if (this.isOver) return;
    if (code === REFUSED || (await isSignedOut())) return this.end();
    const seconds = Math.min(FIRST_S * 2 ** this.failures++, LONGEST_S) * (0.75 + Math.random() / 2);
    this.reader.closed(Math.ceil(seconds));
    this.timer = setTimeout(() => this.open(), seconds * 1000);
  }

  end() {
    this.close();
    this.reader.ended();
  }

  close() {
    this.isOver = true;
    clearTimeout(this.timer);
    this.socket?.close();
  }
}

// A refused WebSocket does not say why.
async function isSignedOut() {
  try {
    const response = await fetch("/live/data?message_id=-", { headers: { Accept: "application/json" } });
    return response.status === 401;
  } catch {
    return false;
  }
}
