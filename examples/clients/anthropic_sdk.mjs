// Anthropic's SDK for JavaScript (npm install @anthropic-ai/sdk): a streamed answer, a call of a tool, and another model.
//
// eval "$(hearth client env)"; node examples/clients/anthropic_sdk.mjs MODEL OTHER_MODEL
import Anthropic from "@anthropic-ai/sdk";

const question = "What is a lighthouse for? One sentence.";
const weather = {
  name: "weather",
  description: "The weather in a place.",
  input_schema: { type: "object", properties: { place: { type: "string" } }, required: ["place"] },
};
const whole = (answer) => answer.content.map((block) => block.text ?? "").join("");

// Node's fetch gives up on an answer that has not begun after 300 s. Hearth begins a stream within seconds and keeps it
// alive with comments, which the SDK skips; so everything is streamed here, and collected where the whole is wanted.
function ask(client, model, messages, more = {}) {
  return client.messages.stream({ model, max_tokens: 100, messages, ...more });
}

async function streamed(client, model) {
  process.stdout.write(`${model}: `);
  const stream = ask(client, model, [{ role: "user", content: question }]);
  stream.on("text", (text) => process.stdout.write(text));
  await stream.finalMessage();
  process.stdout.write("\n");
}

async function useTool(client, model) {
  const messages = [{ role: "user", content: "Do I need a coat in Bergen?" }];
  const asked = await ask(client, model, messages, { tools: [weather] }).finalMessage();
  const calls = asked.content.filter((block) => block.type === "tool_use");
  for (const call of calls) console.log(`${model} calls ${call.name}(${JSON.stringify(call.input)})`);
  const results = calls.map((call) => ({ type: "tool_result", tool_use_id: call.id, content: "4 degrees, rain" }));
  messages.push({ role: "assistant", content: asked.content }, { role: "user", content: results });
  console.log(`${model}: ${whole(await ask(client, model, messages, { tools: [weather] }).finalMessage())}`);
}

const [model, other] = process.argv.slice(2);
const client = new Anthropic();
await streamed(client, model);
await useTool(client, model);
await streamed(client, other);
