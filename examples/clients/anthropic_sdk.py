"""Anthropic's SDK for Python: a streamed answer, a call of a tool, and another model.

eval "$(hearth client env)"; python examples/clients/anthropic_sdk.py MODEL OTHER_MODEL
"""

import sys

from anthropic import Anthropic

QUESTION = "What is a lighthouse for? One sentence."
WEATHER = {
    "name": "weather",
    "description": "The weather in a place.",
    "input_schema": {"type": "object", "properties": {"place": {"type": "string"}}, "required": ["place"]},
}


def stream(client: Anthropic, model: str) -> None:
    """Each piece as it comes. While the model loads, comments keep the connection alive; the SDK skips them."""
    print(f"{model}: ", end="")
    with client.messages.stream(
        model=model, max_tokens=100, messages=[{"role": "user", "content": QUESTION}]
    ) as pieces:
        for text in pieces.text_stream:
            print(text, end="", flush=True)
    print()


def use_tool(client: Anthropic, model: str) -> None:
    """The model asks for the weather, hears it, and answers."""
    messages = [{"role": "user", "content": "Do I need a coat in Bergen?"}]
    asked = client.messages.create(model=model, max_tokens=100, messages=messages, tools=[WEATHER])
    calls = [block for block in asked.content if block.type == "tool_use"]
    for call in calls:
        print(f"{model} calls {call.name}({call.input})")
    results = [{"type": "tool_result", "tool_use_id": call.id, "content": "4 degrees, rain"} for call in calls]
    messages += [{"role": "assistant", "content": asked.content}, {"role": "user", "content": results}]
    answer = client.messages.create(model=model, max_tokens=100, messages=messages, tools=[WEATHER])
    print(f"{model}: {''.join(block.text for block in answer.content if block.type == 'text')}")


def main(model: str, other: str) -> None:
    # An answer that is not streamed comes in one piece after the model has loaded: the SDK's own limit is ten minutes.
    client = Anthropic(timeout=3600)
    stream(client, model)
    use_tool(client, model)
    stream(client, other)


main(*sys.argv[1:3])
