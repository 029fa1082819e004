"""`Reloaders`: what a running server reads again on SIGHUP, such as its certificate."""

from collections.abc import Callable

from ...log import log as _log


class Reloaders:
    """The functions that a server calls on SIGHUP, each with the name of what it reloads.

    The messages are logged at a level that is shown by default, because an operator asked for the reload.
    """

    def __init__(self) -> None:
        self._reloaders: list[tuple[str, Callable[[], None]]] = []

    def add(self, name: str, reload: Callable[[], None]) -> None:
        """Adds a function to call on SIGHUP.

        Args:
            name: what the function reloads, for the log, such as "the TLS certificate".
            reload: reads the files again. If it raises an exception, it must have left the old values in use.
        """
        self._reloaders.append((name, reload))

    def run(self) -> None:
        """Calls all functions. The failure of one does not keep the others from running."""
        if not self._reloaders:
            _log.warning("SIGHUP: this server has nothing to reload")
        for name, reload in self._reloaders:
            try:
                reload()
            except Exception as error:
                _log.error("reload of %s failed, so nothing of it has changed: %s", name, error)
            else:
                _log.warning("reloaded %s", name)
