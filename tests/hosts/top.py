"""The application that host servers run at the root. The environment variable DATA names its data directory, if any."""

import os

from durable_streams_server import FileBackedStreamStore, create_app

data = os.environ.get("DATA")
app = create_app(store=FileBackedStreamStore(data) if data else None)
