// The page: the key, the stream, and the parts that show what it says.
import { byId, setHidden, setText } from "./elements.js";
import { Events, Failures } from "./events.js";
import { Gpus } from "./gpus.js";
import { Models } from "./models.js";
import { Requests } from "./requests.js";
import { Follower, faultOf } from "./stream.js";
import { Timeline } from "./timeline.js";
import { Try } from "./try.js";

const KEY = "hearth-key"; // in this tab's storage only
const TICK = 1000;

class Dashboard {
  constructor() {
    this.gpus = new Gpus(byId("gpus"));
    this.models = new Models(byId("models"), { act: (...wish) => this.act(...wish), log: (name) => this.showLog(name) });
    this.requests = new Requests(
      { rows: byId("requests"), total: byId("requests-count"), region: byId("requests-region") },
      (id, again) => this.cancel(id, again));
    this.timeline = new Timeline(byId("timeline"), byId("axis"));
    this.events = new Events(byId("events"));
    this.failures = new Failures(byId("failures"), byId("no-failures"));
    this.try = new Try(() => this.key);
    this.due = false;
    byId("entrance").addEventListener("submit", (event) => {
      event.preventDefault();
      this.enter(byId("key").value.trim());
    });
    byId("forget").addEventListener("click", () => this.forget(""));
    setInterval(() => this.draw(), TICK);
    this.forgetState();
    const key = sessionStorage.getItem(KEY);
    if (key) this.enter(key);
    else byId("key").focus();
  }

  forgetState() {
    this.state = { models: {}, logs: {}, gpus: [], requests: { running: 0, waiting: 0, rows: [] }, status: {} };
    this.admin = false;
    this.offset = 0; // of the server's clock, in seconds
    this.try.allow(null);
    this.events.clear();
    this.timeline.clear();
  }

  enter(key) {
    this.key = key;
    this.follower?.leave();
    this.connection("none", "Connecting");
    this.follower = new Follower(key, {
      message: (event, data) => this.hear(event, data),
      lost: (why) => this.lose(why),
      refused: (status, why) => this.forget(why || "This key is not known here."),
    });
  }

  forget(why) {
    this.follower?.leave();
    this.key = "";
    sessionStorage.removeItem(KEY);
    this.forgetState();
    setHidden(byId("board"), true);
    setHidden(byId("forget"), true);
    setHidden(byId("entrance"), false);
    setText(byId("key-fault"), why);
    this.connection("none", "Not connected");
    byId("key").focus();
  }

  // --- the stream

  hear(event, data) {
    if (event === "hello") this.open(data);
    else if (event === "happened") this.happened(data);
    else if (event === "away") this.trouble(data.detail);
    else if (event === "state") this.update(data);
  }

  open({ admin }) {
    this.admin = admin;
    this.fresh = true; // what comes first is no news
    sessionStorage.setItem(KEY, this.key);
    this.connection("open", admin ? "Connected as administrator" : "Connected");
    byId("board").classList.remove("stale");
    if (!byId("entrance").hidden) {
      byId("key").value = "";
      setText(byId("key-fault"), "");
      setHidden(byId("entrance"), true);
      setHidden(byId("forget"), false);
      setHidden(byId("board"), false);
      byId("main").focus({ preventScroll: true });
    }
    this.learnModels();
  }

  async learnModels() {
    try {
      this.try.allow((await (await this.ask("GET", "../v1/models")).json()).data.map((model) => model.id));
    } catch {
      this.try.allow(null); // all are offered then, and the server refuses those that it must
    }
  }

  lose(why) {
    this.connection("lost", `Connection lost, trying again${why ? ` (${why.slice(0, 120)})` : ""}`);
    byId("board").classList.add("stale");
  }

  happened(event) {
    this.events.add(event);
    this.timeline.add(event);
  }

  update(news) {
    this.offset = news.now - Date.now() / 1000;
    this.announce(news.models ?? {});
    Object.assign(this.state.models, news.models);
    Object.assign(this.state.logs, news.logs);
    for (const part of ["gpus", "requests", "status"]) if (news[part]) this.state[part] = news[part];
    this.trouble(this.state.status.trouble || (this.state.status.acting === false ? "No router acts now." : ""));
    this.fresh = false;
    if (!this.due) {
      this.due = true;
      requestAnimationFrame(() => this.draw());
    }
  }

  announce(models) {
    if (this.fresh) return;
    const changed = Object.values(models).filter(({ name, phase }) => this.state.models[name] && this.state.models[name].phase !== phase);
    if (changed.length) setText(byId("phases"), changed.map(({ name, phase }) => `${name} is ${phase}`).join(", "));
  }

  trouble(text) {
    setText(byId("trouble"), text);
    setHidden(byId("trouble"), !text);
  }

  connection(state, text) {
    byId("connection").dataset.state = state;
    setText(byId("connection"), text);
  }

  draw() {
    this.due = false;
    if (byId("board").hidden) return;
    const now = Date.now() / 1000 + this.offset, models = Object.values(this.state.models);
    this.gpus.show(this.state.gpus, models);
    this.models.show(models, this.admin, now);
    this.requests.show(this.state.requests, this.admin, now);
    this.timeline.show(models, now);
    this.failures.show(models, this.state.logs, now);
    this.try.offer(models);
  }

  // --- what is asked

  async ask(method, path) {
    const response = await fetch(path, { method, headers: { Authorization: `Bearer ${this.key}` } });
    if (!response.ok) throw new Error(await faultOf(response));
    return response;
  }

  async act(name, action, query = "") {
    try {
      const answer = await (await this.ask("POST", `${modelPath(name)}/${action}${query}`)).json();
      this.say(`${name}: ${answer.message}`);
    } catch (error) {
      this.say(`${name}: ${error.message}`, true);
    }
  }

  async cancel(id, again) {
    try {
      this.say((await (await this.ask("DELETE", `requests/${encodeURIComponent(id)}`)).json()).message);
    } catch (error) {
      this.say(error.message, true);
      again();
    }
  }

  async showLog(name) {
    setText(byId("log-title"), `Log of ${name}`);
    setText(byId("log-text"), "Fetching it");
    byId("log").showModal();
    try {
      setText(byId("log-text"), (await (await this.ask("GET", `${modelPath(name)}/logs?lines=300`)).text()) || "It has said nothing.");
      byId("log-text").scrollTop = byId("log-text").scrollHeight;
    } catch (error) {
      setText(byId("log-text"), error.message);
    }
  }

  say(text, bad = false) {
    byId("said").classList.toggle("bad", bad);
    setText(byId("said"), text);
  }
}

const modelPath = (name) => `models/${name.split("/").map(encodeURIComponent).join("/")}`;

new Dashboard();
