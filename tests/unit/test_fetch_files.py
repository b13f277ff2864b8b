"""Checked downloads against a real HTTP server that misbehaves on command."""

from __future__ import annotations

import hashlib
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from tenacity import wait_none

from router.errors import FetchFailed
from router.fetch.files import ATTEMPTS, Outcome, PublishedFile, fetch, http_client

CONTENT = bytes(range(256)) * 1000


@dataclass
class Reply:
    """One answer. length: what the header says; None the truth."""

    status: int = 200
    body: bytes = CONTENT
    length: int | None = None
    location: str | None = None


@dataclass
class Told:
    """A progress that keeps what it was told."""

    sizes: list[int] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def at(self, size: int) -> None:
        self.sizes.append(size)

    def again(self, why: str) -> None:
        self.failures.append(why)


class Publisher(ThreadingHTTPServer):
    """Answers with `replies`, one a request; the last one from then on."""

    daemon_threads = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.replies = [Reply()]
        self.asked: list[str] = []


class Handler(BaseHTTPRequestHandler):
    server: Publisher

    def do_GET(self) -> None:
        publisher = self.server
        publisher.asked.append(self.path)
        reply = publisher.replies.pop(0) if len(publisher.replies) > 1 else publisher.replies[0]
        self.send_response(reply.status)
        self.send_header("Content-Length", str(len(reply.body) if reply.length is None else reply.length))
        if reply.location:
            self.send_header("Location", reply.location)
        self.end_headers()
        self.wfile.write(reply.body)

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def publisher() -> Iterator[Publisher]:
    with Publisher() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def file(publisher: Publisher) -> PublishedFile:
    return PublishedFile("words.tiktoken", f"{publisher.url}/words", len(CONTENT), hashlib.sha256(CONTENT).hexdigest())


def run(file: PublishedFile, directory: Path, told: Told | None = None) -> Outcome:
    with http_client() as client:
        return fetch(file, directory, client, told or Told(), wait=wait_none())


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_a_file_is_fetched_into_a_directory_that_did_not_exist(file: PublishedFile, tmp_path: Path) -> None:
    told, into = Told(), tmp_path / "models" / "encodings"
    assert run(file, into, told) is Outcome.FETCHED
    assert (into / file.name).read_bytes() == CONTENT
    assert names(into) == [file.name]
    assert told.sizes[0] == 0
    assert told.sizes[-1] == len(CONTENT)
    assert told.failures == []


def test_an_engine_of_another_user_can_read_it(file: PublishedFile, tmp_path: Path) -> None:
    run(file, tmp_path)
    assert (tmp_path / file.name).stat().st_mode & 0o777 == 0o644


def test_what_is_there_is_checked_and_not_fetched_again(
    publisher: Publisher, file: PublishedFile, tmp_path: Path
) -> None:
    (tmp_path / file.name).write_bytes(CONTENT)
    told = Told()
    assert run(file, tmp_path, told) is Outcome.PRESENT
    assert publisher.asked == []
    assert told.sizes == [len(CONTENT)]


@pytest.mark.parametrize("old", [b"", b"half of it", CONTENT[:-1] + b"x"], ids=["empty", "short", "one byte"])
def test_a_wrong_file_is_replaced(file: PublishedFile, tmp_path: Path, old: bytes) -> None:
    (tmp_path / file.name).write_bytes(old)
    assert run(file, tmp_path) is Outcome.REPLACED
    assert (tmp_path / file.name).read_bytes() == CONTENT


def test_an_answer_that_ends_too_early_is_asked_for_again(
    publisher: Publisher, file: PublishedFile, tmp_path: Path
) -> None:
    cut = CONTENT[:100_000]
    publisher.replies = [Reply(body=cut, length=len(CONTENT)), Reply(body=cut), Reply(status=503, body=b""), Reply()]
    told = Told()
    assert run(file, tmp_path, told) is Outcome.FETCHED
    assert (tmp_path / file.name).read_bytes() == CONTENT
    assert len(told.failures) == 3
    assert "only 100000 of 256000 bytes came" in told.failures[1]
    assert told.sizes.count(0) == 4, "each attempt begins anew"


def test_a_wrong_checksum_is_an_error_at_once_and_leaves_everything_as_it_was(
    publisher: Publisher, file: PublishedFile, tmp_path: Path
) -> None:
    (tmp_path / file.name).write_bytes(b"old")
    publisher.replies = [Reply(body=bytes(len(CONTENT)))]
    with pytest.raises(FetchFailed, match="is not that file") as caught:
        run(file, tmp_path)
    assert f"copy it to {tmp_path / file.name}" in str(caught.value)
    assert (tmp_path / file.name).read_bytes() == b"old"
    assert names(tmp_path) == [file.name]
    assert len(publisher.asked) == 1


def test_more_than_the_file_is_not_read_to_its_end(publisher: Publisher, file: PublishedFile, tmp_path: Path) -> None:
    publisher.replies = [Reply(body=CONTENT + CONTENT, length=10**12)]
    with pytest.raises(FetchFailed, match="is not that file"):
        run(file, tmp_path)
    assert names(tmp_path) == []


def test_a_file_that_is_not_there_is_asked_for_once(publisher: Publisher, file: PublishedFile, tmp_path: Path) -> None:
    publisher.replies = [Reply(status=404, body=b"no")]
    with pytest.raises(FetchFailed, match="answered 404"):
        run(file, tmp_path)
    assert len(publisher.asked) == 1
    assert names(tmp_path) == []


def test_a_server_that_stays_busy_is_given_up(publisher: Publisher, file: PublishedFile, tmp_path: Path) -> None:
    publisher.replies = [Reply(status=503, body=b"")]
    told = Told()
    with pytest.raises(FetchFailed, match=f"answered 503, {ATTEMPTS} times in a row"):
        run(file, tmp_path, told)
    assert len(publisher.asked) == ATTEMPTS
    assert len(told.failures) == ATTEMPTS - 1


def test_a_redirect_is_followed(publisher: Publisher, file: PublishedFile, tmp_path: Path) -> None:
    publisher.replies = [Reply(status=302, body=b"", location="/elsewhere"), Reply()]
    assert run(file, tmp_path) is Outcome.FETCHED
    assert publisher.asked == ["/words", "/elsewhere"]


def test_nobody_there(file: PublishedFile, tmp_path: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        gone = replace(file, url=f"http://127.0.0.1:{closed.getsockname()[1]}/words")
        with pytest.raises(FetchFailed, match="cannot be reached") as caught:
            run(gone, tmp_path)
    assert "On a machine that reaches it, fetch" in str(caught.value)


@pytest.mark.parametrize("url", ["ftp://example/words", "words", "http://host:port/words"])
def test_an_address_that_is_none(file: PublishedFile, tmp_path: Path, url: str) -> None:
    with pytest.raises(FetchFailed, match="is not an"):
        run(replace(file, url=url), tmp_path)


def test_a_directory_in_the_files_place(file: PublishedFile, tmp_path: Path) -> None:
    (tmp_path / file.name).mkdir()
    with pytest.raises(FetchFailed, match="is a directory"):
        run(file, tmp_path)


def test_a_directory_that_cannot_be_made(file: PublishedFile, tmp_path: Path) -> None:
    (tmp_path / "models").write_bytes(b"")
    with pytest.raises(FetchFailed, match="cannot be written"):
        run(file, tmp_path / "models" / "encodings")


def test_two_at_once_do_not_disturb_each_other(file: PublishedFile, tmp_path: Path) -> None:
    outcomes: list[Outcome] = []
    threads = [threading.Thread(target=lambda: outcomes.append(run(file, tmp_path))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(outcomes) == 4
    assert names(tmp_path) == [file.name]
    assert (tmp_path / file.name).read_bytes() == CONTENT
