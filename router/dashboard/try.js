// Sends one prompt to a model and shows the answer as it comes, and what the wait is for until then.
import { byId, element, setHidden, setText } from "./elements.js";
import { faultOf, messages } from "./stream.js";
import { duration } from "./format.js";

export class Try {
  constructor(key) {
    this.key = key; // a function
    this.names = "";
    this.allowed = null;
    byId("try").addEventListener("submit", (event) => {
      event.preventDefault();
      this.send();
    });
    byId("try-stop").addEventListener("click", () => this.abort?.abort());
  }

  // names: what the key may use; null while nobody has said so
  allow(names) {
    this.allowed = names && new Set(names);
  }

  offer(models) {
    const all = models.map((model) => model.name).filter((name) => !name.includes("*"));
    const own = all.filter((name) => this.allowed?.has(name));
    const names = own.length ? own : all; // a key for "qwen*" has no model in its list, and may use some
    if (names.join("\n") === this.names) return;
    this.names = names.join("\n");
    const select = byId("try-model"), chosen = select.value;
    select.replaceChildren(...names.map((name) => element("option", { value: name }, name)));
    if (names.includes(chosen)) select.value = chosen;
  }

  async send() {
    this.abort?.abort();
    const abort = (this.abort = new AbortController());
    const answer = byId("try-answer"), began = performance.now();
    setText(byId("try-fault"), "");
    answer.replaceChildren();
    setHidden(answer, true);
    this.busy(true);
    this.say("Sent; waiting for the model");
    try {
      const response = await fetch("../v1/chat/completions", {
        method: "POST",
        signal: abort.signal,
        headers: { Authorization: `Bearer ${this.key()}`, "Content-Type": "application/json" },
        body: JSON.stringify({
          model: byId("try-model").value,
          messages: [{ role: "user", content: byId("try-prompt").value }],
          stream: true,
        }),
      });
      if (!response.ok) throw new Error(await faultOf(response));
      await this.read(response, answer);
      this.say(`Done in ${duration((performance.now() - began) / 1000)}`);
    } catch (error) {
      this.say(error.name === "AbortError" ? "Stopped" : "");
      if (error.name !== "AbortError") setText(byId("try-fault"), error.message);
    } finally {
      if (this.abort === abort) this.busy(false);
    }
  }

  async read(response, answer) {
    for await (const message of messages(response)) {
      if (message.comment !== undefined) {
        this.say(message.comment.replace(/^hearth: /, ""));
        continue;
      }
      if (message.data === "[DONE]") return;
      const said = JSON.parse(message.data);
      if (said.error) throw new Error(said.error.message ?? String(said.error));
      const delta = said.choices?.[0]?.delta ?? {};
      if (delta.content) {
        this.say("Answering");
        setHidden(answer, false);
        answer.append(delta.content);
      } else if (delta.reasoning_content) {
        this.say("Thinking");
      }
    }
  }

  busy(busy) {
    byId("try-answer").setAttribute("aria-busy", String(busy));
    byId("try-stop").disabled = !busy;
  }

  say(text) {
    setText(byId("try-state"), text);
  }
}
