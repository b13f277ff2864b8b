"""A picture made in code, so that a model's eyes can be tried without a file."""

from __future__ import annotations

import base64
import struct
import zlib

#: Large enough that no engine's preprocessor refuses it.
SIDE = 64
RED = (220, 20, 30)


def png(side: int = SIDE, colour: tuple[int, int, int] = RED) -> bytes:
    """A square of one colour as a PNG file (8 bit, RGB; https://www.w3.org/TR/png-3/)."""
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    row = b"\0" + bytes(colour) * side
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(row * side)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, data) for kind, data in chunks)


def data_url(picture: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(picture).decode()}"


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
