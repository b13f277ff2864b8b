#!/bin/bash
# curl: a streamed answer, a call of a tool, and another model. Wants OPENAI_BASE_URL and OPENAI_API_KEY (`hearth client env`).
#
# usage: examples/clients/chat.sh MODEL OTHER_MODEL
set -euo pipefail
model=$1 other=$2
question='[{"role": "user", "content": "What is a lighthouse for? One sentence."}]'
coat='{"role": "user", "content": "Do I need a coat in Bergen?"}'
tools='[{"type": "function", "function": {"name": "weather", "description": "The weather in a place.",
  "parameters": {"type": "object", "properties": {"place": {"type": "string"}}, "required": ["place"]}}}]'

# The key travels in a file descriptor: arguments can be read by everybody on the machine. --no-buffer shows each piece as
# it comes; lines that begin with a colon say where the request stands while the model loads.
ask() {
  curl --silent --show-error --fail-with-body --no-buffer --header @<(printf 'Authorization: Bearer %s\n' "$OPENAI_API_KEY") \
    --header 'Content-Type: application/json' --data "$1" "$OPENAI_BASE_URL/chat/completions"
}

ask "{\"model\": \"$model\", \"stream\": true, \"messages\": $question}"
answer=$(ask "{\"model\": \"$model\", \"messages\": [$coat], \"tools\": $tools}")
echo "$answer"
message=$(python3 -c 'import json, sys; print(json.dumps(json.load(sys.stdin)["choices"][0]["message"]))' <<<"$answer")
id=$(python3 -c 'import json, sys; print(json.load(sys.stdin)["tool_calls"][0]["id"])' <<<"$message")
ask "{\"model\": \"$model\", \"tools\": $tools, \"messages\": [$coat, $message,
  {\"role\": \"tool\", \"tool_call_id\": \"$id\", \"content\": \"4 degrees, rain\"}]}"
echo
ask "{\"model\": \"$other\", \"stream\": true, \"messages\": $question}"
