// What runs, then the line in its order. Of a long line only the first are shown; the rest is counted.
import { Keyed, element, setAttribute, setHidden, setText } from "./elements.js";
import { count, duration } from "./format.js";

export class Requests {
  constructor({ rows, total, region }, cancel) {
    this.total = total;
    this.region = region;
    this.rows = new Keyed(rows, (id) => new Row(id, cancel), region);
  }

  show(requests, admin, now) {
    const hidden = requests.running + requests.waiting - requests.rows.length;
    const whose = admin ? "" : " of yours";
    const said = `${count(requests.running, "request")}${whose} running, ${requests.waiting} waiting`;
    setText(this.total, hidden ? `${said}; the first ${requests.rows.length} are shown` : said);
    setHidden(this.region, requests.rows.length === 0);
    this.rows.show(requests.rows.map((request) => [request.id, { request, now }]));
  }
}

class Row {
  constructor(id, cancel) {
    this.cells = ["place", "model", "key", "so-far", "expected"].map((name, index) =>
      element("td", index > 2 ? { role: "cell", class: "number" } : { role: "cell" }));
    this.button = element("button", { type: "button", click: () => this.cancel(id, cancel) }, "Cancel");
    this.root = element("tr", { role: "row" }, ...this.cells, element("td", { role: "cell" }, this.button));
  }

  // The button keeps the focus until the row goes, so it is not disabled.
  cancel(id, cancel) {
    if (this.button.getAttribute("aria-disabled") === "true") return;
    setAttribute(this.button, "aria-disabled", "true");
    cancel(id, () => setAttribute(this.button, "aria-disabled", null));
  }

  update({ request, now }) {
    const waits = request.position > 0;
    const expected = request.expected_seconds;
    const texts = [
      waits ? String(request.position) : "runs",
      request.model,
      request.alias || "–",
      duration(now - request.since),
      !waits ? "" : expected === null || expected === undefined ? "not known yet" : `about ${duration(expected)}`,
    ];
    texts.forEach((text, index) => setText(this.cells[index], text));
    setAttribute(this.button, "aria-label", `Cancel ${waits ? `place ${request.position}` : "the running request"}, ${request.model}`);
  }
}
