"""The application itself, as a host server is given it. DATA names its directory, if it is to have one."""

import os

from durable_streams_server import FileBackedStreamStore, create_app

data = os.environ.get("DATA")
app = create_app(store=FileBackedStreamStore(data) if data else None)
