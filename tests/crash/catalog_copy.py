"""Checks of the catalog's second copy on a simulated disk."""

from durable_streams_server.storage.files.catalog.copy import Copy, committed_payloads
from durable_streams_server.storage.files.catalog.reconcile import Relation, relate
from durable_streams_server.storage.files.catalog.tables import (
    META,
    META_KEY,
    NAMES,
    operations,
    parse_meta,
)
from durable_streams_server.storage.files.directory import CATALOG
from durable_streams_server.testing.catalog import SimulatedTables
from durable_streams_server.testing.disk import SimulatedDisk


def check_copy(disk: SimulatedDisk) -> None:
    """Checks that the copy is level with the catalog or one commit ahead, as it must be after any crash."""
    copy = Copy(disk, CATALOG)
    copy.load()
    sealed = SimulatedTables(disk).get(META, META_KEY)
    meta = None if sealed is None else parse_meta(sealed)
    assert relate(meta, copy.state, copy.newest) in (Relation.LEVEL, Relation.AHEAD)


def tables_of_copy(disk: SimulatedDisk) -> list[dict[bytes, bytes]]:
    """Returns the catalog's tables, rebuilt from the records of the copy."""
    tables: list[dict[bytes, bytes]] = [{} for _ in NAMES]
    copy = Copy(disk, CATALOG)
    copy.load()
    for payload in committed_payloads(copy) if copy.state is not None else ():
        for table, key, sealed in operations(payload):
            if sealed is None:
                tables[table].pop(key, None)
            else:
                tables[table][key] = sealed
    return tables
