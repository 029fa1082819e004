"""Loads the modules that only subscriptions need: TLS, JSON Web Tokens and the HTTP client.

Importing these modules takes 100 ms, and loading the system's trusted certificates takes another 20 ms. A server that already has
subscriptions loads them before it listens. Any other server loads them on a thread when a client creates the first subscription,
so that the imports do not block the event loop.
"""

import ssl
from importlib import import_module
from typing import Final

_MODULES: Final = ("tokens", "keys", "delivery")


def load_dependencies() -> ssl.SSLContext:
    """Imports the modules that subscriptions need, and returns the TLS context that verifies webhook receivers.

    May be called on any thread.
    """
    for name in _MODULES:
        import_module(f".{name}", __package__)
    return ssl.create_default_context()
