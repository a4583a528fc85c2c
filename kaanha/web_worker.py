"""A process of the web server as `manage.py run` starts it: it ends with the server, whatever ends that."""

import os
import signal

from kaanha import tied

tied.tie(os.getppid(), signal.SIGKILL)

from kaanha.wsgi import application  # noqa: E402 — an orphan needn't load it

__all__ = ["application"]
