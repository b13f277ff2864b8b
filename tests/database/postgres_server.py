"""A private Postgres for tests, with LiteLLM's tables, in a directory of its own and reachable on 127.0.0.1 only."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import subprocess
import sys
import time
from pathlib import Path

import litellm_proxy_extras
import psycopg
from stack import free_port

_LIMIT = 60.0


def programs() -> Path | None:
    """The directory of the newest Postgres's programs that Debian has installed here."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    return found[-1].parent if found else None


class PostgresServer:
    """One server, in an empty directory. It refuses to be root: then it is the user `postgres` of Debian's package."""

    def __init__(self, directory: Path, bin_directory: Path) -> None:
        self._directory = directory
        self._bin = bin_directory
        self._user = pwd.getpwnam("postgres") if os.geteuid() == 0 else None
        self._password = secrets.token_hex(16)
        self._port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self.url = f"postgresql://hearth:{self._password}@127.0.0.1:{self._port}/postgres"

    def start(self) -> None:
        """Make the cluster and start it; returns when it answers."""
        password = self._directory / "password"
        password.write_text(self._password)
        if self._user is not None:
            for path in (self._directory, password):
                os.chown(path, self._user.pw_uid, self._user.pw_gid)
        data = str(self._directory / "data")
        self._run(
            "initdb", "-D", data, "-U", "hearth", "--pwfile", str(password), "--auth=scram-sha-256", "--no-sync",
            "--encoding=UTF8", "--locale=C",
        ).wait(_LIMIT)  # fmt: skip
        self._process = self._run(
            "postgres", "-D", data, "-p", str(self._port), "-c", "listen_addresses=127.0.0.1",
            "-c", "unix_socket_directories=", "-c", "fsync=off",
        )  # fmt: skip
        deadline = time.monotonic() + _LIMIT
        while True:
            try:
                psycopg.connect(self.url).close()
            except psycopg.OperationalError:
                if time.monotonic() > deadline or self._process.poll() is not None:
                    raise
                time.sleep(0.02)
            else:
                return

    def migrate(self) -> None:
        """LiteLLM's own migrations, one after the other, as `prisma migrate deploy` runs them."""
        migrations = Path(litellm_proxy_extras.__file__).parent / "migrations"
        with psycopg.connect(self.url, autocommit=True) as connection:
            for file in sorted(migrations.glob("*/migration.sql")):
                connection.execute(file.read_bytes())

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(_LIMIT)

    def _run(self, program: str, *arguments: str) -> subprocess.Popen[bytes]:
        user = {} if self._user is None else {
            "user": self._user.pw_uid, "group": self._user.pw_gid, "extra_groups": []
        }  # fmt: skip
        with (self._directory / "log").open("ab") as log:
            command = [str(self._bin / program), *arguments]
            return subprocess.Popen(command, cwd="/", stdout=log, stderr=log, **user)  # type: ignore[call-overload,no-any-return]


def generate_client(directory: Path, engine: Path, packages: Path) -> None:
    """A copy of the prisma package in `directory`, with the client for LiteLLM's schema in it.

    Not in this environment's own: every gateway that finds a generated client imports it, and starts slower by it.
    """
    import prisma  # noqa: PLC0415 - a package that a test must not import before the copy is made of it

    shutil.copytree(Path(prisma.__file__).parent, directory / "prisma")
    text = (Path(litellm_proxy_extras.__file__).parent / "schema.prisma").read_text()
    lines = [line for line in text.splitlines() if not line.strip().startswith("binaryTargets")]
    schema = directory / "schema.prisma"
    schema.write_text("\n".join(lines))
    done = subprocess.run(
        [
            str(packages / "bin/node"),
            str(packages / "node_modules/prisma/build/index.js"),
            "generate",
            "--schema",
            str(schema),
        ],
        env={
            "PATH": os.pathsep.join([str(packages / "bin"), str(Path(sys.executable).parent), os.environ["PATH"]]),
            "HOME": str(directory),
            "PYTHONPATH": str(directory),
            "HEARTH_TEST_PRISMA": str(packages),
            "PRISMA_CLI_QUERY_ENGINE_TYPE": "binary",
            "PRISMA_QUERY_ENGINE_BINARY": str(engine),
            "PRISMA_SCHEMA_ENGINE_BINARY": "/bin/true",  # asked for, and not run
            "PRISMA_HIDE_UPDATE_MESSAGE": "true",
            "CHECKPOINT_DISABLE": "1",
        },
        capture_output=True,
        text=True,
        timeout=_LIMIT,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
