"""The tiktoken encodings that GPT-OSS engines read when they start (openai-harmony, `TIKTOKEN_ENCODINGS_BASE`).

Addresses and checksums are those of the tiktoken package (`tiktoken_ext/openai_public.py`).
"""

from __future__ import annotations

from router.fetch.files import PublishedFile

PUBLISHER = "https://openaipublic.blob.core.windows.net/encodings"
#: Where the engines look for them, below the weights (`/models` in a container).
DIRECTORY = "tiktoken_encodings"
_KNOWN = (
    ("o200k_base.tiktoken", 3_613_922, "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d"),
    ("cl100k_base.tiktoken", 1_681_126, "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7"),
)


def encodings(publisher: str = PUBLISHER) -> tuple[PublishedFile, ...]:
    """The files, at `publisher` or at a copy of it: the checksums are the same."""
    return tuple(PublishedFile(name, f"{publisher.rstrip('/')}/{name}", size, sha) for name, size, sha in _KNOWN)
