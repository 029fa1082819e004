"""The catalog: what every stream was at one record of the log, all of it at once, kept twice.

`entries` says what is in it, `tables` how that is keyed and sealed. `database` keeps the tables in LMDB, `copy` keeps each commit
a second time, `reconcile` brings the two together, and `table_catalog` answers from them. `sums` proves the database
unchanged; `verify` looks at damage, `rebuild` makes one copy from the other or from
what `salvage` finds in their `pages`, and `repair` chooses among these.
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
    place_of,
    producers_of,
    state_of,
    words_of_entry,
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
    "place_of",
    "producers_of",
    "rebuild_from_copy",
    "rebuild_from_entries",
    "repair_catalog",
    "rewrite_copy",
    "salvage_entries",
    "state_of",
    "verify_catalog",
    "words_of_entry",
]
