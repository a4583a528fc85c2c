"""The web server around a world."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import signal
import socket

from aiohttp import web

from kaanha.simulator import control, endpoints, sending, template_endpoints
from kaanha.simulator.options import Options
from kaanha.simulator.web import WORLD, as_graph
from kaanha.simulator.world import HandshakeFailed, World

LARGEST_REQUEST = 101 * 1024 * 1024  # a document of 100 MB


class CannotStart(Exception):
    """Why the simulator doesn't run, in a sentence."""


def application(world: World) -> web.Application:
    """The program that answers for this world."""
    app = web.Application(middlewares=[as_graph], client_max_size=LARGEST_REQUEST)
    app[WORLD] = world
    messages = r"/{version:v\d+\.\d+}/{id}/messages"
    app.router.add_post(messages, sending.post_message)  # first: nearly every request is one
    app.router.add_post(messages.replace("messages", "marketing_messages"), sending.post_message)
    app.router.add_routes([*template_endpoints.routes(), *control.routes(), *endpoints.routes()])
    return app


def _listening(options: Options) -> socket.socket:
    if not 0 <= options.port <= 65535:
        raise CannotStart(f"There is no port {options.port}; choose one from 1 to 65535 with --port.")
    try:
        return socket.create_server((options.host, options.port), backlog=1024)
    except OSError as error:
        reason = "in use by another program" if error.errno == errno.EADDRINUSE else f"not available ({error})"
        raise CannotStart(f"Port {options.port} on {options.host} is {reason}; choose another with --port.") from error


class Server:
    """A world that serves from `start` to `stop`; both must run in one loop."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._runner: web.AppRunner | None = None
        self.port = options.port

    async def start(self) -> World:
        """Begin to serve. Raises CannotStart for a busy port, an unusable log, a failed handshake or a wrong switch."""
        listening = _listening(self._options)  # first, so that a second simulator does not touch the log of the first
        self.port = listening.getsockname()[1]
        try:
            world = World(self._options)
        except (OSError, ValueError) as error:
            listening.close()
            raise CannotStart(f"The simulator can't start: {str(error).rstrip('.')}.") from error
        self._runner = web.AppRunner(application(world), access_log=None, shutdown_timeout=0.2)
        await self._runner.setup()
        await web.SockSite(self._runner, listening, backlog=1024).start()
        try:
            await world.start()
        except HandshakeFailed as error:
            await self.stop()
            raise CannotStart(str(error)) from error
        return world

    async def stop(self) -> None:
        """Stop serving and telling."""
        if self._runner:
            world = self._runner.app[WORLD]
            await world.stop()
            await self._runner.cleanup()
            self._runner = None


async def serve(options: Options) -> None:
    """Serve until SIGTERM or Ctrl-C. Raises CannotStart."""
    server = Server(options)
    over = asyncio.Event()
    loop = asyncio.get_running_loop()
    for each in (signal.SIGTERM, signal.SIGINT):
        with contextlib.suppress(NotImplementedError):
            loop.add_signal_handler(each, over.set)
    world = await server.start()
    print(introduction(world, server.port), flush=True)  # noqa: T201  what the person at the terminal needs
    await over.wait()
    await server.stop()


def introduction(world: World, port: int) -> str:
    """What to do with a simulator that has just started."""
    options = world.options
    base = f"http://{options.host}:{port}"
    return "\n".join(
        (
            f"Simulated WhatsApp Cloud API at {base}/v25.0",
            f"  page           {base}/simulator",
            f"  account        {options.waba_id}",
            f"  phone numbers  {', '.join(world.phones)}",
            f"  access token   {options.access_token}",
            f"  app secret     {options.app_secret}",
        )
    )
