"""What is pika's own and not public: writing the frames of many messages at once, and dropping a stream.

Kept in one place, because a new version of pika has to be checked against it.
"""

from __future__ import annotations

from collections.abc import Sequence

import pika
from pika.exceptions import StreamLostError

#: Frames are joined until they make so many bytes. Larger: fewer system calls, more memory while they are sent.
WRITE_BYTES = 128 * 1024


class JoiningConnection(pika.SelectConnection):
    """Writes the frames of many messages with few system calls."""

    def write_frames(self, data: bytes, frames: int) -> None:
        self.bytes_sent += len(data)
        self.frames_sent += frames
        self._adapter_emit_data(data)

    def abort_stream(self) -> None:
        """Drop the stream. It is gone when the close callback has been called."""
        if not self.is_closed:
            self._terminate_stream(StreamLostError("dropped"))


def joined(chunks: Sequence[tuple[bytes, int]]) -> list[tuple[bytes, int]]:
    """Join the data of messages into few pieces, with the number of frames of each."""
    pieces: list[tuple[bytes, int]] = []
    parts: list[bytes] = []
    size = frames = 0
    for data, count in chunks:
        parts.append(data)
        size += len(data)
        frames += count
        if size >= WRITE_BYTES:
            pieces.append((b"".join(parts), frames))
            parts, size, frames = [], 0, 0
    if parts:
        pieces.append((b"".join(parts), frames))
    return pieces
