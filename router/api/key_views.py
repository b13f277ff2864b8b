"""What the API says of keys: the contract with the CLI and other clients."""

from __future__ import annotations

from pydantic import BaseModel, Field

from router.store.key_ring import KeyLimits


class KeyView(BaseModel):
    """One key, without its secret. Times are unix seconds, money US dollars; None: no limit, or never.
    fingerprint: the last letters of its newest secret."""

    name: str
    fingerprint: str
    limits: KeyLimits
    created: float
    expires: float | None
    blocked: bool
    spend: float
    tokens: int
    last_used: float | None


class KeysView(BaseModel):
    """All keys by name. now: the server's clock in unix seconds."""

    now: float = 0.0
    keys: list[KeyView]


class NewSecretView(BaseModel):
    """A secret, told this once."""

    name: str
    key: str = Field(repr=False)
