// One card for each model: its phase, what it waits for, and what can be asked of it.
import { Keyed, element, setAttribute, setHidden, setText } from "./elements.js";
import { duration, size } from "./format.js";

const AWAKE = ["ready", "draining"];

export class Models {
  // act(model, action, query): asks the server; log(model): shows the engine's log
  constructor(list, { act, log }) {
    this.cards = new Keyed(list, (name) => new Card(name, act, log));
  }

  show(models, admin, now) {
    this.cards.show(models.map((model) => [model.name, { model, admin, now }]));
  }
}

class Card {
  constructor(name, act, log) {
    this.phase = element("span", { class: "phase" });
    this.facts = element("p", { class: "soft" });
    this.now = element("p");
    this.progress = element("progress", { max: 1, "aria-label": `${name} loads` });
    this.fault = element("p", { class: "fault" });
    this.buttons = {
      wake: this.button("Wake", name, () => act(name, "wake")),
      sleep: this.button("Sleep", name, () => this.sleep(name, act)),
      pin: this.button("Pin", name, () => act(name, this.model.pinned ? "unpin" : "pin")),
      log: this.button("Log", name, () => log(name)),
    };
    this.actions = element("div", { class: "row" }, ...Object.values(this.buttons));
    this.card = element("article", { class: "card" },
      element("div", { class: "head" }, element("h3", {}, name), this.phase),
      this.facts, this.now, this.progress, this.fault, this.actions);
    this.root = element("li", {}, this.card);
    this.card.setAttribute("aria-label", name);
  }

  button(label, name, does) {
    const made = element("button", {
      type: "button",
      click: () => made.getAttribute("aria-disabled") !== "true" && does(),
    });
    made.name_ = name;
    this.label(made, label);
    return made;
  }

  label(button, text) {
    setText(button, text);
    setAttribute(button, "aria-label", `${text} ${button.name_}`);
  }

  sleep(name, act) {
    if (!this.forces()) return act(name, "sleep");
    if (confirm(`${name} is being put to sleep, and waits for its running requests. Break them off?`)) {
      act(name, "sleep", "?force=true");
    }
  }

  forces() {
    return this.model.phase === "draining";
  }

  update({ model, admin, now }) {
    this.model = model;
    setAttribute(this.card, "data-phase", model.phase);
    setText(this.phase, model.phase + (model.pinned ? ", pinned" : ""));
    setText(this.facts, facts(model));
    setText(this.now, situation(model, now));
    const loads = model.phase === "starting" && model.load_seconds > 0;
    setHidden(this.progress, !loads);
    if (loads) this.progress.value = Math.min(1, (now - model.since) / model.load_seconds);
    setText(this.fault, model.phase === "failed" ? model.error : "");
    setHidden(this.actions, !admin);
    this.disable(this.buttons.wake, model.phase === "ready" || model.phase === "starting");
    this.disable(this.buttons.sleep, ["asleep", "failed", "stopping"].includes(model.phase));
    this.label(this.buttons.sleep, this.forces() ? "Stop now" : "Sleep");
    setAttribute(this.buttons.pin, "aria-pressed", String(model.pinned));
  }

  disable(button, disabled) {
    setAttribute(button, "aria-disabled", disabled ? "true" : null); // it keeps the focus, unlike with `disabled`
  }
}

function facts(model) {
  const parts = [`${size(model.memory)} on GPU ${model.gpus.join(", ")}`];
  if (model.measured_memory) parts.push(`${size(model.measured_memory)} measured`);
  if (model.role !== "normal") parts.push(model.role);
  if (model.warm) parts.push(`kept warm: ${model.warm.reason}`);
  if (model.load_seconds) parts.push(`loads in ${duration(model.load_seconds)}`);
  return parts.join(" · ");
}

function situation(model, now) {
  const parts = [];
  if (model.in_flight) parts.push(`${model.in_flight} running`);
  if (model.waiting) parts.push(`${model.waiting} waiting`);
  if (model.phase === "starting") parts.push(`starting for ${duration(now - model.since)}`);
  if (model.stops_at !== null) parts.push(`idle: stops in ${duration(model.stops_at - now)}`);
  else if (AWAKE.includes(model.phase) && !model.in_flight && model.pinned) parts.push("never stopped for idleness");
  if (model.retry_at !== null) parts.push(`tried again in ${duration(model.retry_at - now)} at the earliest`);
  else if (model.phase !== "ready") parts.push(expectation(model));
  return parts.filter(Boolean).join(" · ") || "Nobody uses it now.";
}

function expectation(model) {
  if (model.expected_seconds === null) return model.phase === "asleep" ? "never loaded yet" : "";
  return `answers in about ${duration(model.expected_seconds)}, at most ${duration(model.at_most_seconds)}`;
}
