// Server-sent events over fetch: unlike EventSource it can send a key.

// usage: for await (const message of messages(response)) ...
// A message is {event, data, id}, or {comment} for a line that programs skip.
export async function* messages(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "", message = { event: "message", data: [] };
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      const lines = (rest + value).split("\n");
      rest = lines.pop();
      for (const raw of lines) {
        const line = raw.endsWith("\r") ? raw.slice(0, -1) : raw;
        if (line === "") {
          if (message.data.length) yield { ...message, data: message.data.join("\n") };
          message = { event: "message", data: [] };
        } else if (line.startsWith(":")) {
          yield { comment: line.slice(1).trim() };
        } else {
          const colon = line.indexOf(":");
          const name = colon < 0 ? line : line.slice(0, colon);
          const text = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
          if (name === "data") message.data.push(text);
          else if (name === "event") message.event = text;
          else if (name === "id") message.id = text;
        }
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

// The server says at least this often (ms) that it is still there; later than that, the connection counts as lost.
const SILENCE = 15000;
const AGAIN = "again"; // a stream that ends because it is old: another follows at once
const FIRST_PAUSE = 500, LONGEST_PAUSE = 5000;

// Follows /lifecycle/stream until `leave`; after a loss it takes up where it was.
// on: {open(), message(event, data), lost(why), refused(status, why)}
export class Follower {
  constructor(key, on) {
    this.key = key;
    this.on = on;
    this.lastId = "";
    this.left = false;
    this.pause = FIRST_PAUSE;
    this.follow();
  }

  leave() {
    this.left = true;
    this.abort?.abort();
  }

  async follow() {
    while (!this.left) {
      let why = "";
      try {
        why = await this.once();
      } catch (error) {
        why = error.message;
      }
      if (this.left) return;
      if (why === AGAIN) continue;
      this.on.lost(why);
      await new Promise((resume) => setTimeout(resume, this.pause));
      this.pause = Math.min(this.pause * 2, LONGEST_PAUSE);
    }
  }

  // Returns why it ended.
  async once() {
    this.abort = new AbortController();
    let watchdog = setTimeout(() => this.abort.abort(), SILENCE);
    try {
      const headers = { Authorization: `Bearer ${this.key}`, Accept: "text/event-stream" };
      if (this.lastId) headers["Last-Event-ID"] = this.lastId;
      const response = await fetch("stream", { headers, signal: this.abort.signal, cache: "no-store" });
      if (response.status === 401 || response.status === 403) {
        this.left = true;
        this.on.refused(response.status, await faultOf(response));
        return "";
      }
      if (!response.ok) return await faultOf(response);
      for await (const message of messages(response)) {
        clearTimeout(watchdog);
        watchdog = setTimeout(() => this.abort.abort(), SILENCE);
        if (message.comment !== undefined) continue;
        if (message.id) this.lastId = message.id;
        if (message.event === "hello") this.pause = FIRST_PAUSE;
        if (message.event === AGAIN) return AGAIN;
        this.on.message(message.event, JSON.parse(message.data));
      }
      return "";
    } finally {
      clearTimeout(watchdog);
      this.abort.abort();
    }
  }
}

// What a fault's body says.
export async function faultOf(response) {
  const text = await response.text();
  try {
    const body = JSON.parse(text);
    return String(body.error?.message ?? body.detail ?? text);
  } catch {
    return text || `The server answered ${response.status}.`;
  }
}
