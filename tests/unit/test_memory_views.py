"""Measured memory in what the API says and in the metrics."""

from __future__ import annotations

from collections.abc import Mapping

import fleet

from router.api.views import gpu_views
from router.memory.usage import Declaration, declaration
from router.metrics.fleet import Fleet
from router.metrics.page import render
from router.store.state import FleetState, ModelState

CONFIG = fleet.config(fleet.spec("a"), fleet.spec("b"))
STATE = FleetState(now=1000.0, models={"a": fleet.ready(measured_memory=7), "b": ModelState()}, line=())


def page(free: Mapping[str, int | None]) -> str:
    return render(Fleet(CONFIG, STATE, free, expected={}, trouble="", version="0"))


def test_gpu_has_its_total_and_what_is_free_by_measurement() -> None:
    (gpu,) = gpu_views(CONFIG, STATE, {"0": 4})
    assert (gpu.memory, gpu.reserve, gpu.room, gpu.claimed, gpu.free) == (10, 0, 10, 6, 4)


def test_gpu_that_is_not_measured_has_no_free_memory_rather_than_none() -> None:
    for free in ({}, {"0": None}):
        (gpu,) = gpu_views(CONFIG, STATE, free)
        assert gpu.free is None
        assert "hearth_gpu_free_bytes{" not in page(free)


def test_metrics_have_what_was_measured() -> None:
    text = page({"0": 4})
    assert 'hearth_gpu_free_bytes{gpu="0"} 4.0' in text
    assert 'hearth_model_memory_bytes{model="a"} 7.0' in text
    assert 'hearth_model_memory_bytes{model="b"}' not in text


def test_words_of_a_declaration_are_part_of_the_api() -> None:
    assert {str(each) for each in Declaration} == {"", "fits", "too low", "too high"}
    assert declaration(6, None) == ""
