"""The server's shutdown where the end of the delay has to be awaited."""

from __future__ import annotations

import asyncio
import signal

import uvicorn
from fastapi import FastAPI

from service.network.draining import DrainingServer
from tests.service.tasks import until


def test_the_end_of_the_delay_after_a_second_signal_is_no_third_one() -> None:
    delay_s = 0.01
    app = FastAPI()
    server = DrainingServer(uvicorn.Config(app, port=0, log_config=None), app, delay_s)

    async def signalled_twice() -> None:
        serving = asyncio.create_task(server.serve())
        await until(lambda: server.started)
        server.handle_exit(signal.SIGINT, None)
        server.handle_exit(signal.SIGINT, None)
        # The loop runs timers in order: this one is set later and for longer than the delay.
        await asyncio.sleep(0)
        await asyncio.sleep(2 * delay_s)
        await serving

    asyncio.run(signalled_twice())

    # A third SIGINT would set `force_exit`, which drops all requests.
    assert (server.should_exit, server.force_exit) == (True, False)
