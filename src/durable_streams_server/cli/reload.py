"""What `serve` reads again on SIGHUP: its certificate, its tokens, and the settings that a running server can change.

Each part is read and checked as a whole before any of it is used. If it is broken, the server keeps what it has, and the log says why.
"""

import logging

from ..http.asgi.application import DurableStreamsApp
from ..http.serving.server import Server
from ..log import log as _log
from ..protocol.decisions.quota import Quota
from .settings.loading import Loaded, reload_settings
from .settings.settings import Settings


def add_reloaders(server: Server, app: DurableStreamsApp, loaded: Loaded) -> None:
    """Tells a server what to read again on SIGHUP.

    Args:
        server: The server, whose certificate may change.
        app: The application of the server, whose store gets the new limits.
        loaded: The settings with which the server was started.
    """
    settings = loaded.settings
    if loaded.sources.file is not None:
        server.reloaders.add("the settings", _RunningSettings(app, loaded).reload)
    if settings.tls_cert is not None:
        server.reloaders.add("the TLS certificate", lambda: _reload_certificate(server, settings))
    authenticator = app.authenticator
    if authenticator is not None:
        server.reloaders.add("the tokens", authenticator.reload)


class _RunningSettings:
    """The settings of a running server.

    Args:
        app: The application that uses them.
        loaded: The settings with which the server was started.
    """

    def __init__(self, app: DurableStreamsApp, loaded: Loaded) -> None:
        self._app = app
        self._loaded = loaded

    def reload(self) -> None:
        """Loads the settings again, and uses the new values of those that a running server can change.

        Raises:
            BadSettings: The new settings cannot be used. The server keeps its settings.
        """
        reloaded = reload_settings(self._loaded)
        self._loaded = reloaded.loaded
        settings = reloaded.loaded.settings
        self._app.engine.store.limit(
            Quota(settings.max_streams, settings.max_stream_bytes, settings.max_total_bytes)
        )
        if "log-level" in reloaded.changed:
            logging.root.setLevel(settings.log_level.upper())
        for key in reloaded.changed:
            _log.warning("the setting %s has a new value", key)
        for key in reloaded.needs_restart:
            _log.warning("the new value of the setting %s counts from the next start", key)


def _reload_certificate(server: Server, settings: Settings) -> None:
    """Reads the certificate and its key again, and uses them for new connections.

    Raises:
        click.UsageError: A file cannot be used. The server keeps its certificate.
    """
    tls = settings.tls_context()
    if tls is not None:
        server.use_tls(tls)
