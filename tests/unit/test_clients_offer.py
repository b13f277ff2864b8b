"""Which models a client is offered, and what it is told of each."""

from __future__ import annotations

from pathlib import Path

import pytest

from router.catalogue import Card, Catalogue, ClientLimits, KnownProblem, Task
from router.clients.offer import Client, NothingToOffer, Offer, offer
from router.config import load
from router.settings import Role

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parents[2]


def problem(client: str, spoils: str = "model") -> Catalogue:
    known = KnownProblem.model_validate({"client": client, "problem": "fails", "instead": "good", "spoils": spoils})
    return Catalogue(known_problems=(known,))


GOOD = Card(name="good", context=32768, output=4096, tools=True, vision=True)


def offered(client: Client, *cards: Card, utilities: tuple[str, ...] = (), wanted: str | None = None) -> Offer:
    return offer(client, [card.name for card in cards], cards, utilities, wanted)


@pytest.mark.parametrize(
    ("known", "clients"),
    [
        ("OpenCode", {Client.OPENCODE}),
        ("OpenCode on Linux", {Client.OPENCODE}),
        ("OpenCodex", set()),
        ("cline", {Client.CLINE}),
        ("any agent", {Client.OPENCODE, Client.CLINE}),
        ("any", set(Client)),
    ],
)
def test_a_known_bad_pair_is_left_out_with_a_word_why(known: str, clients: set[Client]) -> None:
    bad = Card(name="bad", context=32768, catalogue=problem(known))
    for client in Client:
        found = offered(client, GOOD, bad)
        assert ("bad" in found.left_out) == (client in clients)
        assert [model.name for model in found.models] == ["good"] + ["bad"] * (client not in clients)
    assert all("fails; instead: good" in offered(client, GOOD, bad).left_out["bad"] for client in clients)


def test_a_problem_with_images_takes_the_images() -> None:
    blind = GOOD.model_copy(update={"catalogue": problem("OpenCode on Linux", "images")})
    assert not offered(Client.OPENCODE, blind).models[0].vision
    assert offered(Client.CLINE, blind).models[0].vision
    assert offered(Client.OPENCODE, blind).models[0].warnings == ("fails; instead: good",)


def test_a_problem_that_spoils_nothing_is_told() -> None:
    (model,) = offered(Client.CLINE, GOOD.model_copy(update={"catalogue": problem("any", "nothing")})).models
    assert (model.vision, model.warnings) == (True, ("fails; instead: good",))


def test_agents_get_no_model_without_tools() -> None:
    mute = Card(name="mute", context=32768, tools=False)
    assert "cannot call tools" in offered(Client.CLINE, GOOD, mute).left_out["mute"]
    assert offered(Client.OPEN_WEBUI, GOOD, mute).left_out == {}


def test_the_utility_model_is_the_small_one() -> None:
    tiny = Card(name="tiny", context=8192, tools=False)
    found = offered(Client.OPENCODE, tiny, GOOD, utilities=("tiny",))
    assert (found.default, found.small) == ("good", "tiny")
    assert offered(Client.OPENCODE, GOOD).small == "good", "else titles would go to somebody else's server"


def test_limits_are_those_that_proved_good() -> None:
    limits = Catalogue(client_limits=ClientLimits(context=20000, output=1000))
    small = Card(name="small", context=4096)
    unknown = Card(name="unknown")
    found = offered(Client.SDK, GOOD.model_copy(update={"catalogue": limits}), small, unknown)
    assert [(model.context, model.output) for model in found.models] == [(20000, 1000), (4096, 1024), (None, None)]


def test_the_default_is_good_for_the_work() -> None:
    coder = Card(name="coder", catalogue=Catalogue(good_for=(Task.CODING,)))
    proven = Card(name="proven", catalogue=Catalogue(good_for=(Task.AGENTS,), experimental=False))
    assert offered(Client.CLINE, GOOD, coder).default == "coder"
    assert offered(Client.CLINE, GOOD, coder, proven).default == "proven"
    assert offered(Client.CLINE, GOOD, coder, wanted="good").default == "good"


@pytest.mark.parametrize("wanted", ["mute", "tiny", "absent"])
def test_a_default_that_is_not_offered_is_refused(wanted: str) -> None:
    mute, tiny = Card(name="mute", tools=False), Card(name="tiny")
    with pytest.raises(NothingToOffer, match=f"{wanted} is not for Cline"):
        offered(Client.CLINE, GOOD, mute, tiny, utilities=("tiny",), wanted=wanted)


def test_names_of_which_nothing_is_known_are_left_out() -> None:
    found = offer(Client.SDK, ["good", "wild/*", "alias"], [GOOD, Card(name="wild/*")], ())
    assert set(found.left_out) == {"wild/*", "alias"}
    with pytest.raises(NothingToOffer, match="alias: nothing is known"):
        offer(Client.SDK, ["alias"], [GOOD], ())


def test_a_model_that_is_not_served_is_left_out() -> None:
    huge = Card(name="huge", context=8192, too_large="90.0 GiB never fits GPU 0")
    assert offered(Client.SDK, GOOD, huge).left_out == {"huge": "it is not served: 90.0 GiB never fits GPU 0"}


def test_the_shipped_models_for_opencode() -> None:
    config = load(ROOT / "litellm_config.yaml")
    utilities = [name for name, spec in config.models.items() if spec.role is Role.UTILITY]
    found = offer(Client.OPENCODE, list(config.models), list(config.cards.values()), utilities)
    names = {model.name for model in found.models}
    for name, card in config.cards.items():
        for known in card.catalogue.known_problems:
            if known.client == "OpenCode" and known.spoils == "model":
                assert name not in names
    assert found.small in utilities
    assert config.cards[found.default].tools
    assert all(model.context and model.output and model.output < model.context for model in found.models)
