// What happened lately, newest first, and each model's last failure with the end of its log.
import { Keyed, element, setHidden, setText } from "./elements.js";
import { clock, duration } from "./format.js";

const MOST = 100;

export class Events {
  constructor(rows) {
    this.rows = rows;
  }

  clear() {
    this.rows.replaceChildren();
  }

  add(event) {
    const name = event.event.replace(/^asked-/, "asked to ").replaceAll("-", " ");
    const texts = [clock(event.at), event.model || "–", name + (event.detail ? `: ${event.detail}` : "")];
    this.rows.prepend(element("tr", { role: "row", class: ["failed", "died"].includes(event.event) && "bad" },
      ...texts.map((text) => element("td", { role: "cell" }, text))));
    while (this.rows.children.length > MOST) this.rows.lastElementChild.remove();
  }
}

export class Failures {
  constructor(list, none) {
    this.none = none;
    this.list = new Keyed(list, () => new Failure());
  }

  show(models, logs, now) {
    const failed = models.filter((model) => model.error);
    setHidden(this.none, failed.length > 0);
    this.list.show(failed.map((model) => [model.name, { model, log: logs[model.name] ?? [], now }]));
  }
}

class Failure {
  constructor() {
    this.title = element("h3");
    this.what = element("p", { class: "fault" });
    this.log = element("pre", { tabindex: 0 });
    this.details = element("details", {}, element("summary", {}, "The end of its log"), this.log);
    this.root = element("li", {}, this.title, this.what, this.details);
  }

  update({ model, log, now }) {
    const again = model.retry_at === null ? "" : `, tried again in ${duration(model.retry_at - now)} at the earliest`;
    setText(this.title, `${model.name}: ${model.phase === "failed" ? "failed" : `failed before, ${model.phase} now`}${again}`);
    setText(this.what, model.error);
    setText(this.log, log.join("\n"));
    setHidden(this.details, log.length === 0);
    this.log.setAttribute("aria-label", `Log of ${model.name}`);
  }
}
