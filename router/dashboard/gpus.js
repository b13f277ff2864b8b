// Each GPU: what of its memory is claimed, and by whom.
import { Keyed, element, setAttribute, setText } from "./elements.js";
import { size } from "./format.js";

const ABSENT = ["asleep", "failed"];

export class Gpus {
  constructor(list) {
    this.list = new Keyed(list, () => new Gpu());
  }

  show(gpus, models) {
    this.list.show(gpus.map((gpu) => [gpu.name, {
      gpu,
      residents: models.filter((model) => model.gpus.includes(gpu.name) && !ABSENT.includes(model.phase)),
    }]));
  }
}

class Gpu {
  constructor() {
    this.title = element("h3");
    this.facts = element("p", { class: "soft" });
    this.bar = element("div", { class: "bar", role: "img" });
    this.segments = new Keyed(this.bar, () => new Segment());
    this.root = element("li", {}, element("div", { class: "gpu" }, this.title, this.facts), this.bar);
  }

  update({ gpu, residents }) {
    const measured = gpu.free === null ? "" : `, ${size(gpu.free)} free as measured`;
    const reserve = gpu.reserve ? `, ${size(gpu.reserve)} kept in reserve` : "";
    setText(this.title, `GPU ${gpu.name}`);
    setText(this.facts, `${size(gpu.claimed)} of ${size(gpu.room)} claimed${measured}${reserve}`);
    const described = residents.map((model) => `${model.name} ${size(model.memory)}, ${model.phase}`);
    setAttribute(this.bar, "aria-label", `Residents of GPU ${gpu.name}: ${described.join("; ") || "none"}`);
    const whole = Math.max(gpu.room, gpu.claimed, 1);
    this.segments.show(residents.map((model) => [model.name, { model, share: model.memory / whole }]));
  }
}

class Segment {
  constructor() {
    this.root = element("span");
  }

  update({ model, share }) {
    setText(this.root, `${model.name} ${size(model.memory)}`);
    setAttribute(this.root, "title", `${model.name}: ${size(model.memory)}, ${model.phase}`);
    setAttribute(this.root, "data-phase", model.phase);
    this.root.style.width = `${(share * 100).toFixed(2)}%`;
  }
}
