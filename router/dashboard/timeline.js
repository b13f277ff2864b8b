// When each model was in which phase, from the events that changed it.
import { Keyed, element, setAttribute, setText } from "./elements.js";
import { clock } from "./format.js";

export const WINDOW = 900; // seconds

export class Timeline {
  constructor(list, axis) {
    this.lanes = new Keyed(list, (name) => new Lane(name));
    this.axis = [0, 1, 2, 3].map(() => element("span"));
    axis.append(...this.axis);
    this.changes = new Map(); // model -> [{at, phase}...], oldest first
  }

  clear() {
    this.changes.clear();
  }

  add(event) {
    if (!event.phase || !event.model) return;
    const changes = this.changes.get(event.model) ?? [];
    changes.push({ at: event.at, phase: event.phase });
    this.changes.set(event.model, changes.slice(-100));
  }

  show(models, now) {
    const from = now - WINDOW;
    const lanes = models.map((model) => [model.name, { spans: this.spans(model, from, now), from, now }]);
    this.lanes.show(lanes.filter(([, lane]) => lane.spans.length));
    this.axis.forEach((label, index) => setText(label, clock(from + (index * WINDOW) / 3).slice(0, 5)));
  }

  spans(model, from, now) {
    const changes = [...(this.changes.get(model.name) ?? [])];
    if (changes.at(-1)?.phase !== model.phase) changes.push({ at: model.since, phase: model.phase });
    return changes
      .map((change, index) => ({ phase: change.phase, from: Math.max(change.at, from), to: changes[index + 1]?.at ?? now }))
      .filter((span) => span.phase !== "asleep" && span.to > from);
  }
}

class Lane {
  constructor(name) {
    this.name = name;
    this.lane = element("div", { class: "lane", role: "img" });
    this.root = element("li", {}, element("span", { class: "name", title: name }, name), this.lane);
    this.spans = new Keyed(this.lane, () => new Span());
  }

  update({ spans, from, now }) {
    const width = now - from;
    this.spans.show(spans.map((span) => [`${span.phase} ${span.from === from ? "before" : span.from}`,
      { phase: span.phase, left: (span.from - from) / width, share: (span.to - span.from) / width }]));
    const said = spans.map((span) => `${span.phase} from ${clock(span.from)}${span.to < now ? ` to ${clock(span.to)}` : ""}`);
    setAttribute(this.lane, "aria-label", `${this.name}: ${said.join(", ")}`);
  }
}

class Span {
  constructor() {
    this.root = element("i");
  }

  update({ phase, left, share }) {
    setAttribute(this.root, "data-phase", phase);
    this.root.style.left = `${(left * 100).toFixed(2)}%`;
    this.root.style.width = `${(share * 100).toFixed(2)}%`;
  }
}
