"""`ServerFacts`: what the server that runs an application tells the application's routes."""

import msgspec


class ServerFacts(msgspec.Struct):
    """Facts that only the server knows. The server sets them, and the routes read them at each request.

    Attributes:
        is_draining: Whether the server is about to stop, so that load balancers must send it no more requests.
        http2: Whether clients may use HTTP/2. None under another ASGI server, which decides that itself.
        auth: The kinds of access control in force, by name. Empty if every client may do everything.
    """

    is_draining: bool = False
    http2: bool | None = None
    auth: tuple[str, ...] = ()
