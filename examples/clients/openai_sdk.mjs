// OpenAI's SDK for JavaScript (npm install openai; Node 22): a streamed answer, a call of a tool, and another model.
//
// eval "$(hearth client env)"; node examples/clients/openai_sdk.mjs MODEL OTHER_MODEL
import OpenAI from "openai";

const question = "What is a lighthouse for? One sentence.";
const weather = {
  type: "function",
  function: {
    name: "weather",
    description: "The weather in a place.",
    parameters: { type: "object", properties: { place: { type: "string" } }, required: ["place"] },
  },
};

// Node's fetch gives up on an answer that has not begun after 300 s. Hearth begins a stream within seconds and keeps it
// alive with comments, which the SDK skips; so everything is streamed here, and collected where the whole is wanted.
async function streamed(client, model) {
  process.stdout.write(`${model}: `);
  const stream = await client.chat.completions.create({
    model,
    messages: [{ role: "user", content: question }],
    stream: true,
  });
  for await (const chunk of stream) process.stdout.write(chunk.choices[0]?.delta?.content ?? "");
  process.stdout.write("\n");
}

async function useTool(client, model) {
  const messages = [{ role: "user", content: "Do I need a coat in Bergen?" }];
  const asked = await client.chat.completions.stream({ model, messages, tools: [weather] }).finalMessage();
  messages.push(asked);
  for (const call of asked.tool_calls ?? []) {
    console.log(`${model} calls ${call.function.name}(${call.function.arguments})`);
    messages.push({ role: "tool", tool_call_id: call.id, content: "4 degrees, rain" });
  }
  const answer = await client.chat.completions.stream({ model, messages, tools: [weather] }).finalMessage();
  console.log(`${model}: ${answer.content}`);
}

const [model, other] = process.argv.slice(2);
const client = new OpenAI();
await streamed(client, model);
await useTool(client, model);
await streamed(client, other);
