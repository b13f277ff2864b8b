"""OpenAI's SDK for Python: a streamed answer, a call of a tool, and another model.

eval "$(hearth client env)"; python examples/clients/openai_sdk.py MODEL OTHER_MODEL
"""

import json
import sys

from openai import OpenAI

QUESTION = "What is a lighthouse for? One sentence."
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather in a place.",
        "parameters": {"type": "object", "properties": {"place": {"type": "string"}}, "required": ["place"]},
    },
}


def stream(client: OpenAI, model: str) -> None:
    """Each piece as it comes. While the model loads, comments keep the connection alive; the SDK skips them."""
    print(f"{model}: ", end="")
    for chunk in client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": QUESTION}], stream=True
    ):
        if chunk.choices:
            print(chunk.choices[0].delta.content or "", end="", flush=True)
    print()


def use_tool(client: OpenAI, model: str) -> None:
    """The model asks for the weather, hears it, and answers."""
    messages = [{"role": "user", "content": "Do I need a coat in Bergen?"}]
    asked = client.chat.completions.create(model=model, messages=messages, tools=[WEATHER]).choices[0].message
    messages.append(asked.model_dump(exclude_none=True))
    for call in asked.tool_calls or []:
        print(f"{model} calls {call.function.name}({json.loads(call.function.arguments)})")
        messages.append({"role": "tool", "tool_call_id": call.id, "content": "4 degrees, rain"})
    answer = client.chat.completions.create(model=model, messages=messages, tools=[WEATHER])
    print(f"{model}: {answer.choices[0].message.content}")


def main(model: str, other: str) -> None:
    # An answer that is not streamed comes in one piece after the model has loaded: the SDK's own limit is ten minutes.
    client = OpenAI(timeout=3600)
    stream(client, model)
    use_tool(client, model)
    stream(client, other)


main(*sys.argv[1:3])
