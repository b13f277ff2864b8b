"""An answer on its way: what will be said, independent of the API that it is said through."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from router.engine_simulator.api_errors import RefusedError
from router.engine_simulator.tokens import count_tokens, pieces, prose
from router.engine_simulator.tool_arguments import arguments_for

if TYPE_CHECKING:
    from collections.abc import Sequence

FINGERPRINT = "vllm-0.32.0-simulated"


def new_id(prefix: str) -> str:
    """A fresh identifier."""
    return f"{prefix}{uuid.uuid4().hex[:16]}"


@dataclass(frozen=True)
class Tool:
    """A tool that the caller offers."""

    name: str
    parameters: object


@dataclass
class Draft:
    """The tokens to be produced. With a tool, they are the JSON of its arguments instead of prose."""

    prompt_tokens: int
    choices: list[list[str]]
    """Tokens by choice; all choices have the same number."""
    cut: bool
    """Whether the caller's limit ends the answer (`length`) or the answer ends by itself (`stop`)."""
    tool: Tool | None = None
    tool_call_id: str = field(default_factory=lambda: new_id("chatcmpl-tool-"))

    @property
    def length(self) -> int:
        """Tokens of each choice."""
        return len(self.choices[0])

    @property
    def reason(self) -> str:
        """Why it ends when nothing goes wrong."""
        return "length" if self.cut else "stop"


class Shape(Protocol):
    """One API's way to say a draft. Streamed parts are complete server-sent events."""

    eager: ClassVar[bool]
    """Whether the opening is sent at once, instead of with the first token."""

    def opening(self) -> list[str]:
        """What comes before the first token."""
        ...

    def step(self, index: int) -> list[str]:
        """What the token with that index adds."""
        ...

    def closing(self, reason: str, produced: int) -> list[str]:
        """What comes after the last of `produced` tokens per choice."""
        ...

    def failure(self, message: str) -> list[str] | None:
        """What a failed stream ends with; None where the connection is just cut."""
        ...

    def document(self, reason: str, produced: int) -> dict[str, Any]:
        """The whole answer, when it is not streamed."""
        ...


def draft(
    seed: str, *, prompt_tokens: int, length: int, limited: bool, width: int = 1, tool: Tool | None = None
) -> Draft:
    """Draft an answer of `length` tokens in `width` choices. A tool's arguments may end it sooner."""
    if tool is not None:
        spoken = pieces(arguments_for(tool.parameters))
        return Draft(prompt_tokens, [spoken[:length]] * width, cut=len(spoken) > length, tool=tool)
    choices = [list(prose(f"{index} {seed}", length)) for index in range(width)]
    return Draft(prompt_tokens, choices, cut=limited)


def wanted_tool(tools: Sequence[Any] | None, choice: object) -> Tool | None:
    """The tool to call: the one that `choice` names, else the first. Tools are in any of the three APIs' forms.

    Raises RefusedError for an empty list, a tool without a name and a choice that is not in the list.
    """
    if tools is None:
        if choice is not None and choice != "none":
            raise RefusedError("When using `tool_choice`, `tools` must be set. (parameter=tool_choice)",
                               param="tool_choice")  # fmt: skip
        return None
    if choice == "none" or (isinstance(choice, dict) and choice.get("type") == "none"):
        return None
    offered = [found for each in tools if (found := _tool(each))]
    if not isinstance(choice, dict) or not (name := (choice.get("function") or choice).get("name")):
        return offered[0] if offered else None
    for tool in offered:
        if tool.name == name:
            return tool
    raise RefusedError("The tool specified in `tool_choice` does not match any of the specified `tools` "
                       "(parameter=tool_choice)", param="tool_choice")  # fmt: skip


def tools_tokens(tools: Sequence[Any] | None) -> int:
    """What a list of tools adds to the prompt."""
    return count_tokens(json.dumps(tools)) if tools else 0


def data_event(document: object) -> str:
    """A server-sent event without a name."""
    return f"data: {_compact(document)}\n\n"


def named_event(document: dict[str, Any]) -> str:
    """A server-sent event named by the document's type."""
    return f"event: {document['type']}\ndata: {_compact(document)}\n\n"


def _compact(document: object) -> str:
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False)


def _tool(offered: object) -> Tool | None:
    if not isinstance(offered, dict):
        return None
    function = offered.get("function") if isinstance(offered.get("function"), dict) else offered
    name = function.get("name") if isinstance(function, dict) else None
    if not isinstance(function, dict) or not isinstance(name, str):
        return None
    return Tool(name, function.get("parameters") or function.get("input_schema"))
