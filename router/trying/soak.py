"""The search for the context that a model really holds: prompts of one size after another, several at once."""

from __future__ import annotations

import asyncio
import itertools
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from router.trying.asking import Answer, Asker, NoAnswer
from router.trying.ceiling import CLOSE, Outcome, Plan, Tier, next_size
from router.trying.prompts import LONG, MEDIUM, SHORT, Counted, Measure, Prompt, build, measure

#: Seconds for which a model is waited for that a tier has brought down.
RECOVERY = 1800.0
_PAUSE = 5.0
_UNAVAILABLE = frozenset({429, 502, 503})
_BAD_REQUEST = 400
#: Who ended a tier.
ENGINE, GATEWAY = "engine", "gateway"


@dataclass(frozen=True, slots=True)
class Load:
    """concurrency: requests at once. output_tokens: most tokens of an answer. needle: whether a tier only passes when
    every answer names the number that is hidden in the middle of its prompt."""

    concurrency: int = 1
    output_tokens: int = 64
    needle: bool = False


@dataclass(frozen=True, slots=True)
class Sent:
    """One request of a tier and how it ended: an answer, or why there is none. by_gateway: its rules refused it."""

    hidden: str
    answer: Answer | None
    reason: str = ""
    by_gateway: bool = False


class Soak:
    """One run against one model. told: gets each tier, which is in the outcome then; may be set before the run. doing:
    gets what is being done, for people. The outcome is true at any moment: a run that is interrupted has its report.
    """

    def __init__(
        self,
        asker: Asker,
        model: str,
        load: Load,
        doing: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.outcome = Outcome()
        self.told: Callable[[Tier], None] = lambda _: None
        self._asker, self._model, self._load = asker, model, load
        self._doing = doing
        self._seeds = itertools.count(secrets.randbelow(80_000_000) + 10_000_000)

    async def run(self, plan: Plan) -> None:
        """Carry out the plan. Raises NoAnswer when the model cannot be asked at all, or does not come back, and for
        sizes that are smaller than the question alone."""
        measured = await self._measure()
        if plan.sizes and plan.sizes[0] < measured.least:
            raise NoAnswer(f"the smallest prompt has {measured.least:,} tokens here; leave out --tiers below that")
        plan = replace(plan, first=max(plan.first, measured.least))
        while (size := next_size(plan, self.outcome.tiers)) is not None:
            if size < measured.least:
                break  # smaller than the question itself
            self._doing(f"{size:,} tokens, {self._load.concurrency} at once")
            words = measured.words(size)
            tier = await self._tier(size, words)
            self.outcome.tiers.append(tier)
            self.told(tier)
            if tier.passed and tier.prompt_tokens is not None:
                measured = measured.refined(Counted(words, tier.prompt_tokens))
            if tier.limited_by == ENGINE:
                await self._recover()
        self.outcome.complete = True

    async def _measure(self) -> Measure:
        """From two short prompts that begin alike, so that nothing but their length is different."""
        self._doing("waiting for the model")
        seed = next(self._seeds)
        short = await self._count(SHORT, seed)
        self._doing("measuring its tokens")
        try:
            longer = await self._count(LONG, seed)
        except NoAnswer as error:
            if error.status != _BAD_REQUEST:
                raise
            longer = await self._count(MEDIUM, seed)
        try:
            return measure(short, longer)
        except ValueError as error:
            raise NoAnswer(f"the sizes of prompts cannot be told from the engine's answers: {error}") from error

    async def _count(self, words: int, seed: int) -> Counted:
        answer = await self._asker.chat(self._model, _messages(build(words, seed)), max_tokens=1)
        if not answer.prompt_tokens:
            raise NoAnswer("the engine does not say how many tokens a prompt has, so no size can be tried")
        return Counted(words, answer.prompt_tokens)

    async def _tier(self, size: int, words: int) -> Tier:
        began = time.monotonic()
        sent = await asyncio.gather(
            *(self._send(words) for _ in range(self._load.concurrency))
        )  # cancelled together with this task
        return judge(size, sent, time.monotonic() - began, self._load)

    async def _send(self, words: int) -> Sent:
        prompt = build(words, next(self._seeds))
        try:
            answer = await self._asker.stream(
                self._model, _messages(prompt), max_tokens=self._load.output_tokens, temperature=0.0
            )
        except NoAnswer as error:
            return Sent(prompt.hidden, None, str(error), error.by_gateway)
        return Sent(prompt.hidden, answer)

    async def _recover(self) -> None:
        """Wait until a small request is answered: the tier may have ended the engine, which then cools down."""
        end = time.monotonic() + RECOVERY
        self._doing("waiting for the model to answer again")
        while True:
            try:
                await self._count(1, next(self._seeds))
            except NoAnswer as error:
                wait = min(error.retry_after or _PAUSE, end - time.monotonic())
                if wait <= 0 or (error.status and error.status not in _UNAVAILABLE):
                    raise NoAnswer(f"after a tier that failed, {self._model} does not answer: {error}") from error
                await asyncio.sleep(wait)
            else:
                return


def judge(size: int, sent: Sequence[Sent], seconds: float, load: Load) -> Tier:
    """What one tier has shown. seconds: from its first request to its last answer."""
    answers = [one.answer for one in sent if one.answer is not None]
    found = sum(one.answer is not None and one.hidden in one.answer.text + one.answer.reasoning for one in sent)
    counted = [answer.prompt_tokens or 0 for answer in answers]
    first = [answer.first_seconds for answer in answers if answer.first_seconds is not None]
    made = sum(answer.completion_tokens or 0 for answer in answers)
    faults = [fault for one in sent if (fault := _fault(one, size, load.output_tokens))]
    if load.needle and not faults and found < len(sent):
        faults = [(ENGINE, f"{len(sent) - found} of {len(sent)} did not name the number in their prompt")]
    # what an engine did says more than what was kept from it
    limited_by, reason = next((fault for fault in faults if fault[0] == ENGINE), faults[0]) if faults else ("", "")
    return Tier(
        target=size,
        concurrency=len(sent),
        passed=not faults,
        reason=f"{len(faults)} of {len(sent)}: {reason}" if len(sent) > 1 and faults else reason,
        limited_by=limited_by,
        prompt_tokens=min(counted, default=None),
        completion_tokens=made,
        found=found,
        seconds=seconds,
        first_seconds=max(first, default=None),
        prompt_rate=sum(counted) / max(first) if first and max(first) > 0 else None,
        answer_rate=made / seconds if made and seconds > 0 else None,
    )


def _fault(one: Sent, size: int, output_tokens: int) -> tuple[str, str] | None:
    """Who ended one request of a tier, and how; None when it went well."""
    answer = one.answer
    if answer is None:
        if one.by_gateway:
            return GATEWAY, f"the gateway's request rules refused it, and no engine has seen it ({one.reason})"
        return ENGINE, one.reason
    if not (answer.text or answer.reasoning):
        return ENGINE, "the answer is empty"
    if not answer.done:
        return ENGINE, "the stream ended without [DONE]"
    if answer.prompt_tokens is None:
        return ENGINE, "the answer has no usage"
    if abs(answer.prompt_tokens - size) > max(size * CLOSE, 64):
        return ENGINE, f"the engine counted {answer.prompt_tokens:,} tokens: it has cut the prompt, or counts otherwise"
    made = answer.completion_tokens
    if answer.finish_reason == "length" and made is not None and made < output_tokens:
        if "tokens=" in answer.changed:
            return GATEWAY, f"the gateway's request rules left {made} tokens for the answer ({answer.changed})"
        return ENGINE, f"the context had room for {made} tokens of the answer only"
    return None


def _messages(prompt: Prompt) -> list[dict[str, str]]:
    return [{"role": "user", "content": prompt.text}]
