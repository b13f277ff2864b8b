"""The command line: what model is pretended, how fast, and how it fails."""

from __future__ import annotations

import argparse
import re
from dataclasses import dataclass, field

from router.engine_simulator.faults import FaultError, Faults, forms

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12,
          "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}  # fmt: skip
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]i?)?B?")


@dataclass(frozen=True)
class Options:
    """Everything that can be set. Times are seconds, rates tokens per second, lengths tokens, memory bytes."""

    served_model_names: tuple[str, ...] = ("simulated",)
    host: str = "127.0.0.1"
    port: int = 8000
    uds: str | None = None
    load_seconds: float = 2.5
    listen_while_loading: bool = False
    tokens_per_second: float = 40.0
    prefill_tokens_per_second: float = 2000.0
    answer_tokens: int = 48
    """The length of an answer when the caller sets no limit; with a limit, the answer is as long as the limit."""
    answers_end: bool = False
    """Whether answers end by themselves after `answer_tokens`, if no limit ends them sooner."""
    memory: int = 0
    max_model_len: int = 4096
    embedding_dimensions: int = 64
    sleep_endpoints: bool = False
    keep_bodies: str | None = None
    """A directory that gets the body of every request, named by the request's id; nothing is kept unless it is set."""
    faults: tuple[str, ...] = field(default=())

    @property
    def model(self) -> str:
        """The name in answers: the first served name."""
        return self.served_model_names[0]


def _memory(text: str) -> int:
    found = _SIZE.fullmatch(text.strip())
    if not found:
        raise argparse.ArgumentTypeError(f"{text!r} is no size such as 20GiB, 512MiB or 1000000")
    return int(float(found[1]) * _UNITS[found[2] or ""])


def _positive(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is no number above 0")
    return number


def _seconds(text: str) -> float:
    return 0.0 if text.strip() in {"0", "0.0"} else _positive(text)


def _tokens(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number above 0")
    return int(text)


def parse(arguments: list[str] | None = None) -> Options:
    """Read `arguments` (the process's own when None). Wrong ones end the process with code 2 and a message."""
    default = Options()
    parser = argparse.ArgumentParser(
        prog="python -m router.engine_simulator",
        description="A simulated engine with vLLM's API: no weights, a set load time and rate, faults on command.",
    )
    add = parser.add_argument
    add("--served-model-name", nargs="+", default=list(default.served_model_names), metavar="NAME",
        help="names the model answers to; the first one is in its answers")  # fmt: skip
    add("--host", default=default.host)
    add("--port", type=int, default=default.port, help="0 takes any free port and logs it")
    add("--uds", metavar="PATH", help="listen on this unix socket instead of host and port")
    add("--load-seconds", type=_seconds, default=default.load_seconds, help="from the process's start to ready")
    add("--listen-while-loading", action="store_true", help="accept connections at once; /health is 503 meanwhile")
    add("--tokens-per-second", type=_positive, default=default.tokens_per_second, help="of each request")
    add("--prefill-tokens-per-second", type=_positive, default=default.prefill_tokens_per_second)
    add("--answer-tokens", type=_tokens, default=default.answer_tokens, help="length of an answer without a limit")
    add("--answers-end", action="store_true", help="after --answer-tokens, also where a caller's limit is higher")
    add("--memory", type=_memory, default=default.memory, help="claim, such as 20GiB; reported, not taken")
    add("--max-model-len", type=_tokens, default=default.max_model_len)
    add("--embedding-dimensions", type=_tokens, default=default.embedding_dimensions)
    add("--enable-sleep-mode", "--dev-mode", dest="sleep_endpoints", action="store_true",
        help="offer /sleep, /wake_up and /is_sleeping")  # fmt: skip
    add("--keep-bodies", metavar="DIRECTORY", help="write every request's body there, as ID.json")
    add("--fault", action="append", default=[], metavar="SPEC", help=f"may be repeated: {', '.join(forms())}")
    found = parser.parse_args(arguments)
    try:
        Faults(found.fault)
    except FaultError as error:
        parser.error(str(error))
    return Options(
        served_model_names=tuple(found.served_model_name),
        host=found.host,
        port=found.port,
        uds=found.uds,
        load_seconds=found.load_seconds,
        listen_while_loading=found.listen_while_loading,
        tokens_per_second=found.tokens_per_second,
        prefill_tokens_per_second=found.prefill_tokens_per_second,
        answer_tokens=found.answer_tokens,
        answers_end=found.answers_end,
        memory=found.memory,
        max_model_len=found.max_model_len,
        embedding_dimensions=found.embedding_dimensions,
        sleep_endpoints=found.sleep_endpoints,
        keep_bodies=found.keep_bodies,
        faults=tuple(found.fault),
    )
