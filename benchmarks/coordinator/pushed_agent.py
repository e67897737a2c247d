"""An agent that takes pushed tasks and is done at once: as cheap as an agent can be.

``python -m benchmarks.coordinator.pushed_agent PORT``
"""

from __future__ import annotations

import asyncio
import sys

BODY = b'{"status":"completed","result":{"ok":true}}'
ANSWER = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (
    len(BODY),
    BODY,
)


class Agent(asyncio.Protocol):
    """One connection; requests have a length, as the coordinator's have."""

    def __init__(self) -> None:
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        answers = 0
        while True:
            head, mark, rest = self._buffer.partition(b"\r\n\r\n")
            if not mark:
                break
            length = next(
                int(line.partition(b":")[2])
                for line in head.lower().split(b"\r\n")
                if line.startswith(b"content-length")
            )
            if len(rest) < length:
                break
            self._buffer = rest[length:]
            answers += 1
        if answers:
            self._transport.write(ANSWER * answers)


async def main(port: int) -> None:
    """Serve until killed."""
    server = await asyncio.get_running_loop().create_server(Agent, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
