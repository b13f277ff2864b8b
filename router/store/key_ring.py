"""The keys of the house: who may ask, for what, and how much. Redis keeps them where LiteLLM has no database.

A secret is 256 random bits, so a plain SHA-256 of it is as hard to reverse as a slow hash would be: nobody can try that
many. The secret itself is nowhere; whoever has lost it gets a new one (`rotate`).
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field

from router.store.connection import Client, Scripts

_SECRET_PREFIX = "sk-hearth-"  # noqa: S105 - how all of them begin
_SHOWN = 4


class KeyLimits(BaseModel):
    """What a key may do. models: names, all when empty. rpm, tpm: requests and tokens a minute. parallel: requests at a
    time, those that wait included. budget: US dollars in all. priority, share: of its requests, for the scheduler.
    None: no limit."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    models: tuple[str, ...] = ()
    rpm: int | None = Field(None, ge=1)
    tpm: int | None = Field(None, ge=1)
    parallel: int | None = Field(None, ge=1)
    budget: float | None = Field(None, ge=0, allow_inf_nan=False)
    priority: int = 0
    share: float = Field(1.0, gt=0, allow_inf_nan=False)


@dataclass(frozen=True, slots=True)
class Key:
    """One key. id: stays the same when its secret is rotated. fingerprint: the last letters of its newest secret.
    Times are unix seconds; expires None: never; last_used None: not yet. spend: US dollars. tokens: of all requests."""

    id: str
    name: str
    fingerprint: str
    limits: KeyLimits
    created: float
    expires: float | None = None
    blocked: bool = False
    spend: float = 0.0
    tokens: int = 0
    last_used: float | None = None


class KeyRing:
    """The keys in Redis. All methods raise StoreUnavailable."""

    def __init__(self, redis: Client) -> None:
        self._scripts = Scripts(redis)

    async def create(self, name: str, limits: KeyLimits, life: float | None = None) -> str | None:
        """The secret of a new key, told this once; None when there is a key of that name. life: seconds."""
        secret = _new_secret()
        milliseconds = max(1, int(life * 1000)) if life is not None else 0
        made = await self._scripts.run(
            "key_create",
            secrets.token_hex(16),
            name,
            digest(secret),
            secret[-_SHOWN:],
            limits.model_dump_json(),
            milliseconds,
        )
        return secret if made else None

    async def rotate(self, name: str, grace: float = 0.0) -> str | None:
        """A new secret for the key; the old one works for `grace` more seconds. None when there is no such key."""
        secret = _new_secret()
        done = await self._scripts.run(
            "key_change", name, "rotate", digest(secret), secret[-_SHOWN:], int(grace * 1000)
        )
        return secret if done else None

    async def revoke(self, name: str) -> bool:
        """Forget the key; False when there is none of that name."""
        return bool(await self._scripts.run("key_change", name, "revoke"))

    async def block(self, name: str, *, blocked: bool) -> bool:
        """Refuse the key's requests until it is unblocked; False when there is none of that name."""
        return bool(await self._scripts.run("key_change", name, "block" if blocked else "unblock"))

    async def all(self) -> list[Key]:
        """Every key, by name."""
        found = [_key(row) for row in await self._scripts.run("key_list") if row]
        return sorted(found, key=lambda key: key.name)

    async def of_secret(self, secret_digest: str) -> Key | None:
        """The key whose secret has this digest."""
        row = await self._scripts.run("key_find", "secret", secret_digest)
        return _key(row) if row else None

    async def of_id(self, key_id: str) -> Key | None:
        """The key with this id; None once it has been revoked."""
        row = await self._scripts.run("key_find", "id", key_id)
        return _key(row) if row else None

    async def add_spend(self, worker: str, batch: int, uses: Mapping[str, tuple[float, int]]) -> None:
        """By key's id, the US dollars and tokens of requests. A batch of the same number, or an older one, of a worker
        is not counted again."""
        arguments: list[str | int] = []
        for key_id, (cost, tokens) in uses.items():
            arguments += [key_id, f"{cost:.12f}", tokens]
        await self._scripts.run("key_spend", worker, batch, *arguments)


def digest(secret: str) -> str:
    """What is kept of a secret."""
    return hashlib.sha256(secret.encode()).hexdigest()


def caller_of_id(key_id: str) -> str:
    """A short stable name for a key that gives nothing of it away."""
    return hashlib.sha256(key_id.encode()).hexdigest()[:16]


def _new_secret() -> str:
    return _SECRET_PREFIX + secrets.token_urlsafe(32)


def _key(row: Sequence[str]) -> Key:
    fields = dict(zip(row[::2], row[1::2], strict=True))
    expires, last_used = fields.get("expires"), fields.get("last_used")
    return Key(
        id=fields["id"],
        name=fields["name"],
        fingerprint=fields["fingerprint"],
        limits=KeyLimits.model_validate_json(fields["limits"]),
        created=int(fields["created"]) / 1000,
        expires=int(expires) / 1000 if expires else None,
        blocked=bool(fields.get("blocked")),
        spend=float(fields.get("spend", 0)),
        tokens=int(fields.get("tokens", 0)),
        last_used=int(last_used) / 1000 if last_used else None,
    )
