"""What only subscriptions need, and most servers have none of: TLS, JWTs, an HTTP client.

To import these takes 100 ms, and to read the system's trusted certificates 20 ms more. A server that has subscriptions does so before
it listens. Any other does so on a thread, when its first subscription is made, so that the loop does not stand still.
"""

import ssl
from importlib import import_module
from typing import Final

_MODULES: Final = ("tokens", "keys", "delivery")


def load() -> ssl.SSLContext:
    """Loads everything, on any thread. Returns what verifies receivers."""
    for name in _MODULES:
        import_module(f".{name}", __package__)
    return ssl.create_default_context()
