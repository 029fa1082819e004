"""The catalog: what every stream was at one record of the log, all of it at once, kept twice.

`entries` says what is in it, `tables` how that is keyed and sealed. `database` keeps the tables in LMDB, `copy` keeps each commit
a second time, `reconcile` brings the two together, and `table_catalog` answers from them. `sums` proves the database
unchanged; `verify` looks at damage, and `rebuild` makes one copy from the other.
"""

from .entries import FORMAT, Catalog, Drop, Entry, Meta, Put, entry_of, state_of
from .lmdb_catalog import LmdbCatalog
from .rebuild import rebuild_from_copy, rebuild_from_entries, rewrite_copy
from .salvage import Salvage, salvage_entries
from .verify import CatalogFinding, verify_catalog

__all__ = [
    "FORMAT",
    "Catalog",
    "CatalogFinding",
    "Drop",
    "Entry",
    "LmdbCatalog",
    "Meta",
    "Put",
    "Salvage",
    "entry_of",
    "rebuild_from_copy",
    "rebuild_from_entries",
    "rewrite_copy",
    "salvage_entries",
    "state_of",
    "verify_catalog",
]
