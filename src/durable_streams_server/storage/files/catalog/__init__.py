"""The catalog: a database with the state of every stream as of one record of the write-ahead log. Every commit is stored twice.

- `entries`: the entries of the catalog, and the interface that the store uses.
- `tables`: how entries are keyed and checksummed. `database` stores the tables in LMDB.
- `copy`: the second copy, a file of all commits. `reconcile` compares the two when a catalog is opened.
- `table_catalog`, `lmdb_catalog`: the catalog itself.
- `sums`: the checksum that shows, when a catalog is opened, that the database has not changed. `verify` finds damage.
- `repair`: chooses how to repair a catalog. `rebuild` makes one copy from the other, or both copies from the entries that
  `salvage` finds in their `pages`.
"""

from .entries import (
    DATES,
    DATES_BEGIN,
    Catalog,
    Drop,
    Entry,
    Meta,
    Put,
    entry_of,
    label_of_entry,
    place_of,
    producers_of,
    state_of,
)
from .lmdb_catalog import LmdbCatalog
from .rebuild import rebuild_from_copy, rebuild_from_entries, rewrite_copy
from .repair import repair_catalog
from .salvage import Salvage, salvage_entries
from .verify import CatalogFinding, verify_catalog

__all__ = [
    "DATES",
    "DATES_BEGIN",
    "Catalog",
    "CatalogFinding",
    "Drop",
    "Entry",
    "LmdbCatalog",
    "Meta",
    "Put",
    "Salvage",
    "entry_of",
    "label_of_entry",
    "place_of",
    "producers_of",
    "rebuild_from_copy",
    "rebuild_from_entries",
    "repair_catalog",
    "rewrite_copy",
    "salvage_entries",
    "state_of",
    "verify_catalog",
]
