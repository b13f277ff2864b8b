"""A stack that preloads a model: it answers the first request without a load, gives way, and comes back."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from observer import Observer
from stack import Model, Stack

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]


@pytest.fixture
def warm_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    models = [
        Model("kept", memory="60GiB", lifecycle={"idle_timeout": "1s"}),
        Model("beside", memory="20GiB"),
        Model("other", memory="60GiB", lifecycle={"idle_timeout": "1s"}),
    ]
    schedule = {"model": "beside", "cron": "* * * * *", "for": "1h", "timezone": "Europe/Vienna"}
    with Stack(
        tmp_path_factory.mktemp("warm"),
        models,
        gpus={"0": {"memory": "100GiB"}},
        settings={"preload": ["kept"], "schedules": [schedule]},
    ) as stack:
        yield stack


async def test_preloaded_model_is_ready_before_any_request_gives_way_and_comes_back(warm_stack: Stack) -> None:
    async with Observer(warm_stack) as hearth:
        await hearth.until_phase("kept", "ready")
        await hearth.until_phase("beside", "ready")
        assert (await hearth.phases())["other"] == "asleep"
        views = await hearth.models()
        assert views["kept"]["warm"] == {"reason": "preload", "until": None}
        assert views["kept"]["stops_at"] is None
        assert views["beside"]["warm"]["reason"] == "schedule"
        assert views["other"]["warm"] is None
        assert (await hearth.chat("kept")).status_code == 200
        assert len(warm_stack.starts("kept")) == 1, "nobody waited for a load"

        assert (await hearth.chat("other")).status_code == 200
        await hearth.until_phase("kept", "ready")
        assert (await hearth.phases())["other"] == "asleep"
        assert (len(warm_stack.starts("kept")), len(warm_stack.starts("beside"))) == (2, 1)
