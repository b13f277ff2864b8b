"""The context: what cannot fit is refused before anything wakes, and an answer's limit is kept to what is left."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from plugins.request_rules import max_tokens, token_counts
from plugins.request_rules.prompt import Prompt, prompt_of
from plugins.request_rules.request import Request, Shape
from plugins.request_rules.token_counts import Counter, Counters
from plugins.request_rules.tools import has_tools
from router.errors import Unfit
from router.request_rules import RequestRules

#: What a chat template may add that is not counted: a share of the prompt, and at least so many tokens.
_UNCERTAIN = {True: (0.02, 64), False: (0.1, 128)}
_UNCERTAIN_TOOLS = 256


@dataclass(frozen=True, slots=True)
class Needs:
    """What a request needs of a model. tokens: its prompt without images, and one for the answer."""

    tokens: int
    images: int
    tools: bool

    def fits(self, rules: RequestRules) -> bool:
        """Whether a model with these rules can take it."""
        if rules.context_length is None or (self.images and rules.images == "refuse"):
            return False
        return self.tokens + self.images * rules.image_tokens <= rules.context_length


def smallest_fit(needs: Needs, models: dict[str, RequestRules]) -> str | None:
    """The model with the smallest context that takes the request, rather one that can use its tools; None if none."""
    fitting = [
        (needs.tools and rules.tools in ("strip", "refuse"), rules.context_length or 0, name)
        for name, rules in models.items()
        if needs.fits(rules)
    ]
    return min(fitting)[2] if fitting else None


async def apply(
    request: Request, rules: RequestRules, counters: Counters, others: Callable[[], dict[str, RequestRules]]
) -> Request:
    """The request, its limit no longer than what its prompt leaves. others: the models that its caller may use.

    Raises Unfit when not even one token of an answer would fit.
    """
    context = rules.context_length
    if context is None:
        return request
    prompt = prompt_of(request)
    wanted = max_tokens.limit_of(request)
    if prompt.at_most(rules.image_tokens) + (wanted or 1) <= context:
        return request
    counter = await counters.counter(rules.tokenizer)
    images = prompt.images * rules.image_tokens
    tokens = await _count(prompt, counter, limit=context)
    if tokens + images + 1 > context:
        models = others()
        longest = max((each.context_length or 0 for each in models.values()), default=0)
        if longest > context:
            tokens = await _count(prompt, counter, limit=longest)
        needs = Needs(tokens + 1, prompt.images, has_tools(request))
        raise _too_long(request, tokens + images, max(context, longest), context, smallest_fit(needs, models), models)
    return max_tokens.at_most(request, _left(context - tokens - images, tokens, request, exact=counter.exact))


async def _count(prompt: Prompt, counter: Counter, limit: int) -> int:
    texts = [*prompt.texts, prompt.tools]
    return prompt.tokens + await token_counts.count(texts, counter, letters=prompt.letters, limit=limit)


def _left(room: int, tokens: int, request: Request, *, exact: bool) -> int:
    """Tokens for the answer: the room less what is uncertain of the prompt, which never takes more than half of it."""
    share, least = _UNCERTAIN[exact]
    uncertain = max(least, int(tokens * share)) + (_UNCERTAIN_TOOLS if has_tools(request) else 0)
    return max(1, room - min(uncertain, room // 2))


def _too_long(
    request: Request, tokens: int, counted: int, context: int, name: str | None, models: dict[str, RequestRules]
) -> Unfit:
    size = f"more than {counted}" if tokens > counted else str(tokens)
    # clients know that they have to shorten a conversation by these words
    if request.shape is Shape.MESSAGES:
        message = f"prompt is too long: {size} tokens > {context} maximum."
    else:
        message = f"This model's maximum context length is {context} tokens. However, your request has {size} tokens."
    if name is None:
        message += " No model that you may use takes it; shorten it."
    else:
        message += f" Shorten it, or ask {name!r}, which takes {models[name].context_length} tokens."
    return Unfit(message, param=request.where, code="context_length_exceeded")
