"""Kernels for tests: run a line of code in one, and see what became of it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from queue import Empty
from typing import Any

from autograder.provisioner import start_kernel, why_ended

PATIENCE = 60  # seconds


@dataclass
class Answer:
    """What a cell put out: its text, its error, and whether the kernel was still there at the end."""

    text: str = ""
    error: str = ""
    finished: bool = False
    kinds: list[str] = field(default_factory=list)


class Kernel:
    """A kernel and its client, for code that is not asynchronous."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self._loop = asyncio.new_event_loop()
        self.manager = self.wait(start_kernel(*arguments, **options))
        self._client = self.manager.client()
        self._client.start_channels(stdin=False, hb=False)

    def wait(self, coroutine: Any) -> Any:
        return self._loop.run_until_complete(asyncio.wait_for(coroutine, PATIENCE))

    def run(self, code: str) -> Answer:
        return self.wait(self.ask(code))

    async def ask(self, code: str, on_text: Callable[[], None] = lambda: None) -> Answer:
        answer = Answer()
        request = self._client.execute(code)
        while not answer.finished:
            try:
                message = await self._client.get_iopub_msg(timeout=0.2)
            except Empty:
                if not await self.manager.is_alive():
                    break
                continue
            if message["parent_header"].get("msg_id") != request:
                continue
            kind, content = message["msg_type"], message["content"]
            answer.kinds.append(kind)
            if kind == "stream":
                answer.text += content["text"]
                on_text()
            elif kind == "execute_result":
                answer.text += content["data"]["text/plain"]
            elif kind == "error":
                answer.error = f"{content['ename']}: {content['evalue']}"
            answer.finished = content.get("execution_state") == "idle"
        return answer

    @property
    def why(self) -> str:
        self.wait(self.manager.is_alive())
        return why_ended(self.manager)

    def close(self) -> None:
        self._client.stop_channels()
        self.wait(self.manager.shutdown_kernel(now=True))
        self._client.context.destroy(linger=0)
        self._loop.run_until_complete(self._loop.shutdown_default_executor())
        self._loop.close()


@contextlib.contextmanager
def kernel(*arguments: Any, **options: Any) -> Iterator[Kernel]:
    started = Kernel(*arguments, **options)
    try:
        yield started
    finally:
        started.close()


def answer_in(queue: Any, code: str) -> None:
    """For a process of its own: put the text that the code gives into the queue."""
    with kernel() as started:
        queue.put(started.run(code).text)
