"""What takes of the context, how it is counted, what is refused, and which model is named instead."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # LiteLLM's own
    from plugins.request_rules import context, token_counts

from plugins.request_rules.context import Needs
from plugins.request_rules.prompt import prompt_of
from plugins.request_rules.request import Request, Shape
from plugins.request_rules.token_counts import ESTIMATE, Counter, Counters
from router.errors import Unfit
from router.request_rules import RequestRules

IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 50_000}}


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The path of a tokenizer for which every word is one token."""
    tokenizer = Tokenizer(models.WordLevel({"?": 0}, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    tokenizer.save(str(path))
    return str(path)


def chat(content: Any, **more: Any) -> Request:
    return Request(Shape.CHAT, {"messages": [{"role": "user", "content": content}], **more})


async def apply(request: Request, rules: RequestRules, **others: RequestRules) -> Request:
    return await context.apply(request, rules, Counters(), lambda: others)


# --- what is prompt


def test_what_is_counted_of_a_chat() -> None:
    call = {"id": "1", "function": {"name": "look", "arguments": '{"at": 1}'}}
    request = Request(Shape.CHAT, {
        "messages": [
            {"role": "system", "content": "s"},
            {"role": "user", "content": ["bare", {"type": "text", "text": "t"}, IMAGE]},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "1", "content": [{"type": "text", "text": "seen"}, IMAGE]},
        ],
        "tools": [{"type": "function", "function": {"name": "look"}}],
    })  # fmt: skip
    prompt = prompt_of(request)
    assert prompt.texts == ["s", "bare", "t", "look", '{"at": 1}', "seen"]
    assert (prompt.images, prompt.tokens) == (2, 4 * 3 + 3)
    assert json.loads(prompt.tools) == request.data["tools"]


def test_what_is_counted_of_messages() -> None:
    use = {"type": "tool_use", "id": "1", "name": "look", "input": {"at": 1}}
    results = [
        {"type": "tool_result", "content": "one"},
        {"type": "tool_result", "content": [{"type": "text", "text": "two"}]},
    ]
    blocks = [{"role": "assistant", "content": [use]}, {"role": "user", "content": [*results, {"type": "image"}]}]
    prompt = prompt_of(Request(Shape.MESSAGES, {"system": [{"type": "text", "text": "s"}], "messages": blocks}))
    assert prompt.texts == ["s", 'look {"at":1}', "one", "two"]
    assert prompt.images == 1


def test_what_is_counted_of_an_input() -> None:
    items = [
        {"role": "user", "content": [{"type": "input_text", "text": "t"}, {"type": "input_image"}]},
        {"type": "function_call", "name": "look", "arguments": "{}"},
        {"type": "function_call_output", "output": "seen"},
    ]
    prompt = prompt_of(Request(Shape.RESPONSES, {"instructions": "s", "input": items}))
    assert (prompt.texts, prompt.images) == (["s", "t", "look", "{}", "seen"], 1)
    assert prompt_of(Request(Shape.RESPONSES, {"input": "bare"})).texts == ["bare"]


@pytest.mark.parametrize(
    ("given", "texts", "tokens"),
    [
        ("abc", ["abc"], 0),
        (["abc", "abcdef", ""], ["abcdef"], 0),
        ([1, 2, 3], [], 3),
        ([[1, 2], [1, 2, 3]], [], 3),
        ([["a"], "\u65e5"], ["\u65e5"], 0),
        (None, [], 0),
    ],
)
def test_the_longest_of_bare_prompts_counts(given: Any, texts: list[str], tokens: int) -> None:
    prompt = prompt_of(Request(Shape.COMPLETION, {"prompt": given}))
    assert ([text for text in prompt.texts if text], prompt.tokens) == (texts, tokens)


@settings(deadline=None)
@given(st.text(max_size=300))
def test_the_cheap_bound_is_never_below_the_count(text: str) -> None:
    prompt = prompt_of(chat(text, tools=[{"name": text}]))
    counted = sum(ESTIMATE.count(each) for each in [*prompt.texts, prompt.tools])
    assert counted + prompt.tokens <= prompt.at_most(image_tokens=0)


# --- counting


@settings(deadline=None)
@given(st.text(st.sampled_from("ab \n"), max_size=100), st.integers(0, 3))
def test_pieces_are_the_whole_text(text: str, times: int) -> None:
    long = text * 400 * times
    pieces = list(token_counts.pieces(long))
    assert "".join(pieces) == long
    assert all(len(piece) <= token_counts._PIECE for piece in pieces)


def test_words_are_not_torn() -> None:
    assert all(piece.split() == ["word"] * len(piece.split()) for piece in token_counts.pieces("word " * 20_000))


@pytest.mark.parametrize("letters", [10, 10**6])
async def test_counting_ends_when_the_answer_is_known(letters: int) -> None:
    counted: list[str] = []

    def count(text: str) -> int:
        counted.append(text)
        return 1

    found = await token_counts.count(["a"] * 1000, Counter(exact=True, count=count), letters=letters, limit=4)
    assert (found, len(counted)) == (5, 5)


async def test_the_models_own_tokenizer_counts(words: str) -> None:
    counters = Counters()
    for path in (words, str(Path(words).parent)):
        counter = await counters.counter(path)
        assert counter.exact
        assert await token_counts.count(["one two", "three"], counter, letters=20, limit=99) == 3
    assert await counters.counter(words) is await counters.counter(words)


@pytest.mark.parametrize("name", ["/no/such/file", "nobody/nothing", "not a name", "a/b/c/d"])
async def test_a_tokenizer_that_is_not_here_is_not_fetched(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[str] = []
    find = token_counts._find
    monkeypatch.setattr(token_counts, "_find", lambda name: looked.append(name) or find(name))
    counters = Counters()
    assert await counters.counter(name) is ESTIMATE
    assert await counters.counter(name) is ESTIMATE
    assert looked == [name], "it is not looked for with every request"


async def test_a_repository_in_the_local_cache(words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_counts.huggingface_hub, "try_to_load_from_cache", lambda name, file: f"{words}")
    assert (await Counters().counter("somebody/something")).exact


async def test_a_broken_tokenizer_is_as_none(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text("{}")
    assert await Counters().counter(str(path)) is ESTIMATE


def test_limits_within_a_tokenizers_file_do_not_count(words: str, tmp_path: Path) -> None:
    tokenizer = Tokenizer.from_file(words)
    tokenizer.enable_truncation(2)
    tokenizer.enable_padding(length=10)
    path = tmp_path / "tokenizer.json"
    tokenizer.save(str(path))
    counter = token_counts.load(str(path))
    assert counter is not None
    assert counter.count("a b c d") == 4
    assert counter.count("a") == 1


# --- refusing and clamping


async def test_without_a_known_context_nothing_is_counted() -> None:
    request = chat("word " * 10_000)
    assert await apply(request, RequestRules()) is request


async def test_what_fits_for_certain_is_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_counts, "count", None)
    request = chat("word " * 100, max_tokens=100)
    assert await apply(request, RequestRules(context_length=1000)) is request


async def test_the_last_prompt_that_fits_and_the_first_that_does_not(words: str) -> None:
    rules = RequestRules(context_length=1000, tokenizer=words)
    around = 3 + 3
    request = chat("word " * (1000 - around - 1))
    assert await apply(request, rules) is request
    with pytest.raises(Unfit) as caught:
        await apply(chat("word " * (1000 - around)), rules)
    unfit = caught.value
    assert (unfit.status, unfit.code, unfit.param) == (400, "context_length_exceeded", "messages")
    assert unfit.message.startswith("This model's maximum context length is 1000 tokens.")


async def test_tools_and_images_count(words: str) -> None:
    rules = RequestRules(context_length=2000, tokenizer=words, image_tokens=600)
    text = {"type": "text", "text": "word " * 1000}
    await apply(chat([text, IMAGE]), rules)
    with pytest.raises(Unfit):
        await apply(chat([text, IMAGE, IMAGE]), rules)
    with pytest.raises(Unfit):
        await apply(chat([text, IMAGE], tools=[{"description": "word " * 500}]), rules)


async def test_without_a_tokenizer_it_is_estimated() -> None:
    await apply(chat("word " * 800), RequestRules(context_length=1000))
    with pytest.raises(Unfit):
        await apply(chat("word " * 1200), RequestRules(context_length=1000))


@pytest.mark.parametrize(
    ("shape", "data", "param", "start"),
    [
        (Shape.COMPLETION, {"prompt": "word " * 2000}, "prompt", "This model's maximum context length"),
        (Shape.COMPLETION, {"prompt": [5] * 2000}, "prompt", "This model's maximum context length"),
        (Shape.RESPONSES, {"input": "word " * 2000}, "input", "This model's maximum context length"),
        (
            Shape.MESSAGES,
            {"messages": [{"role": "user", "content": "word " * 2000}]},
            "messages",
            "prompt is too long: ",
        ),
    ],
)
async def test_every_shape_is_refused_in_its_own_words(shape: Shape, data: Any, param: str, start: str) -> None:
    with pytest.raises(Unfit) as caught:
        await apply(Request(shape, data), RequestRules(context_length=1000))
    assert caught.value.param == param
    assert caught.value.message.startswith(start)


async def test_the_limit_is_kept_to_what_is_left(words: str) -> None:
    rules = RequestRules(context_length=10_000, tokenizer=words)
    found = await apply(chat("word " * 6000, max_tokens=8000), rules)
    left = 10_000 - 6006 - int(6006 * 0.02)
    assert found.data["max_tokens"] == left
    assert found.changes == (f"max_tokens={left}",)
    assert await apply(found, rules) is found


async def test_a_little_room_is_not_all_given_to_what_is_uncertain(words: str) -> None:
    found = await apply(chat("word " * 984, max_tokens=50), RequestRules(context_length=1000, tokenizer=words))
    assert found.data["max_tokens"] == 5
    found = await apply(chat("word " * 993, max_tokens=50), RequestRules(context_length=1000, tokenizer=words))
    assert found.data["max_tokens"] == 1


# --- who takes it instead


def rules(length: int | None, **more: Any) -> RequestRules:
    return RequestRules(context_length=length, **more)


@pytest.mark.parametrize(
    ("needs", "others", "named"),
    [
        (Needs(500, 0, tools=False), {"big": rules(4000), "mid": rules(1000), "low": rules(400)}, "mid"),
        (Needs(500, 0, tools=False), {"low": rules(400), "none": rules(None)}, None),
        (Needs(500, 0, tools=False), {"exact": rules(500)}, "exact"),
        (Needs(500, 0, tools=True), {"big": rules(4000), "mid": rules(1000, tools="strip")}, "big"),
        (Needs(500, 0, tools=True), {"mid": rules(1000, tools="strip")}, "mid"),
        (Needs(500, 1, tools=False), {"big": rules(4000), "mid": rules(3000, images="refuse")}, "big"),
        (Needs(500, 1, tools=False), {"mid": rules(3000, images="refuse")}, None),
        (Needs(500, 2, tools=False), {"big": rules(4000), "mid": rules(1000, image_tokens=400)}, "big"),
    ],
)
def test_the_smallest_that_takes_it_is_named(needs: Needs, others: dict[str, RequestRules], named: str | None) -> None:
    assert context.smallest_fit(needs, others) == named


async def test_the_refusal_names_it(words: str) -> None:
    own, others = rules(100, tokenizer=words), {"big": rules(9000), "low": rules(50)}
    with pytest.raises(Unfit, match=r"has 506 tokens.* ask 'big', which takes 9000 tokens"):
        await apply(chat("word " * 500), own, **others)
    with pytest.raises(Unfit, match=r"has more than 9000 tokens. No model that you may use takes it"):
        await apply(chat("word " * 9500), own, **others)
    with pytest.raises(Unfit, match=r"has more than 100 tokens. No model"):
        await apply(chat("word " * 500), own)
