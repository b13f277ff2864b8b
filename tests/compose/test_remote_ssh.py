"""examples/remote-use/sshd.conf and hearth-tunnel.keys in a real sshd: the gateway's port is reached, nothing else."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from composition import ROOT, docker, reason_without_remote

pytestmark = [pytest.mark.compose, pytest.mark.timeout(120)]

EXAMPLES = ROOT / "examples/remote-use"
#: Debian's own configuration, less PAM, which is not set up here. hearth-tunnel has a shell: the configuration alone
#: must keep it from there. stranger is no user of sshd.conf.
SERVER = """
ln -s busybox /usr/bin/false
mkdir -p /run/sshd /etc/ssh/sshd_config.d /home/stranger/.ssh
echo 'sshd:x:100:65534::/run/sshd:/usr/sbin/nologin
hearth-tunnel:x:990:990::/:/bin/sh
stranger:x:991:991::/home/stranger:/usr/sbin/nologin' >>/etc/passwd
echo 'sshd:*:19000::::::
hearth-tunnel:*:19000::::::
stranger:*:19000::::::' >/etc/shadow
cp /examples/sshd.conf /etc/ssh/sshd_config.d/hearth.conf
cp /usr/share/openssh/sshd_config /etc/ssh/sshd_config
ssh-keygen -q -t ed25519 -N '' -f /etc/ssh/ssh_host_ed25519_key
for key in limited bare; do ssh-keygen -q -t ed25519 -N '' -f /$key; done
keys=/home/stranger/.ssh/authorized_keys
sed "s|ssh-ed25519 PUBLIC-KEY.*|$(cat /limited.pub)|" /examples/hearth-tunnel.keys >$keys
cat $keys /bare.pub >/etc/ssh/hearth-tunnel.keys
exec /usr/sbin/sshd -D -e -o UsePAM=no
"""
PORT, OTHER_PORT, LOCAL = 8009, 8010, 18009


@dataclass(frozen=True)
class Tunnel:
    """An sshd in one container, what listens beside it on its 127.0.0.1, and a client in another container."""

    server: str
    client: str
    login: tuple[str, str] = ("", "")

    def ssh(self, *options: str, command: str = "", send: str = "") -> subprocess.CompletedProcess[str]:
        """Run ssh to its end; with -f its end comes when the forwarding stands."""
        user, key = self.login
        words = ["docker", "exec", "--interactive", self.client, "ssh", "-i", f"/{key}", "-o", "BatchMode=yes"]
        words += ["-o", "ExitOnForwardFailure=yes", *options, f"{user}@server", *command.split()]
        return subprocess.run(words, input=send, capture_output=True, text=True, timeout=30, check=False)

    def ask(self, port: int) -> subprocess.CompletedProcess[str]:
        """One HTTP request to a port of the server's 127.0.0.1."""
        words = "GET /v1/models HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n\r\n"
        return self.ssh("-W", f"127.0.0.1:{port}", send=words)


@pytest.fixture(scope="module")
def made() -> Iterator[Tunnel]:
    if reason := reason_without_remote():
        pytest.skip(reason)
    image, python = os.environ["HEARTH_TEST_REMOTE_IMAGE"], os.environ["HEARTH_TEST_PYTHON_IMAGE"]
    network = f"hearth-test-{secrets.token_hex(4)}"
    program = Path(__file__).with_name("remote_gateway.py")
    run = ["run", "--detach", "--rm", "--init"]
    started = []
    try:
        docker("network", "create", "--internal", network)
        on = [*run, "--network", network]
        server = docker(
            *on, "--network-alias", "server", "--volume", f"{EXAMPLES}:/examples:ro", image, "sh", "-c", SERVER
        ).strip()
        started.append(server)
        inside = ["--network", f"container:{server}", "--volume", f"{program}:/remote_gateway.py:ro"]
        started.append(
            docker(*run, *inside, python, "python3", "/remote_gateway.py", "127.0.0.1", "8009", "8010").strip()
        )
        client = docker(*on, image, "sleep", "infinity").strip()
        started.append(client)
        for port in (22, PORT, OTHER_PORT):
            docker("exec", server, "sh", "-c", f"until nc 127.0.0.1 {port} </dev/null >/dev/null; do sleep 0.02; done")
        host = docker("exec", server, "cat", "/etc/ssh/ssh_host_ed25519_key.pub")
        script = f"umask 077; mkdir -p /root/.ssh; echo 'server {host}' >/root/.ssh/known_hosts"
        for name in ("limited", "bare"):
            script += f"; echo '{docker('exec', server, 'cat', f'/{name}')}' >/{name}"
        docker("exec", client, "sh", "-c", script)
        yield Tunnel(server, client)
    finally:
        subprocess.run(["docker", "rm", "--force", *reversed(started)], capture_output=True, timeout=60, check=False)
        subprocess.run(["docker", "network", "rm", network], capture_output=True, timeout=60, check=False)


@pytest.fixture(
    params=[("hearth-tunnel", "limited"), ("hearth-tunnel", "bare"), ("stranger", "limited")],
    ids=["as documented", "without the key's options", "without sshd.conf"],
)
def tunnel(made: Tunnel, request: pytest.FixtureRequest) -> Tunnel:
    """Both files together, and each alone: somebody will forget the other one."""
    return replace(made, login=request.param)


def test_the_gateways_port_is_forwarded(tunnel: Tunnel) -> None:
    done = tunnel.ask(PORT)
    assert done.returncode == 0, done.stderr
    assert f'"port": {PORT}' in done.stdout


def test_another_port_of_the_box_is_not(tunnel: Tunnel) -> None:
    done = tunnel.ask(OTHER_PORT)
    assert done.returncode != 0
    assert done.stdout == ""
    assert "open failed: administratively prohibited" in done.stderr


@pytest.mark.parametrize("options", [(), ("-s",)], ids=["command", "subsystem"])
def test_there_is_no_shell(tunnel: Tunnel, options: tuple[str, ...]) -> None:
    done = tunnel.ssh(*options, command="sftp" if "-s" in options else "echo reached")
    assert done.returncode != 0
    assert "reached" not in done.stdout


def test_nobody_opens_a_port_on_the_box(made: Tunnel) -> None:
    for key in ("limited", "bare"):
        done = replace(made, login=("hearth-tunnel", key)).ssh("-N", "-R", f"{LOCAL}:127.0.0.1:22")
        assert done.returncode != 0
        assert f"remote port forwarding failed for listen port {LOCAL}" in done.stderr


def test_the_documented_command(made: Tunnel) -> None:
    """`ssh -N -L`, in the background so that it returns when it stands; then the port answers on the client's side."""
    done = replace(made, login=("hearth-tunnel", "limited")).ssh("-f", "-N", "-L", f"{LOCAL}:127.0.0.1:{PORT}")
    assert done.returncode == 0, done.stderr
    answer = docker("exec", made.client, "wget", "-q", "-O", "-", f"http://127.0.0.1:{LOCAL}/v1/models")
    assert json.loads(answer)["port"] == PORT


def test_an_unknown_key_gets_nothing(made: Tunnel) -> None:
    done = replace(made, login=("stranger", "bare")).ask(PORT)
    assert done.returncode == 255
    assert "Permission denied (publickey" in done.stderr
