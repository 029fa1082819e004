"""The numbers of streams and bytes in the catalog's metadata, as the crash simulator checks and removes them."""

from durable_streams_server.storage.files.catalog.entries import UNCOUNTED, Catalog
from durable_streams_server.storage.files.catalog.table_catalog import TableCatalog
from durable_streams_server.storage.files.catalog.tables import WriteTransaction
from durable_streams_server.testing.catalog import SimulatedCatalog, SimulatedTables
from durable_streams_server.testing.disk import SimulatedDisk
from tests.crash.catalog_copy import check_copy, tables_of_copy


def open_catalog(disk: SimulatedDisk, *, is_older: bool) -> SimulatedCatalog:
    """Opens the catalog after a crash or a stop, and checks its second copy and its sums.

    Args:
        disk: the disk.
        is_older: whether to change the catalog as an older version would, which leaves out the number of bytes.
    """
    check_copy(disk)
    catalog = SimulatedCatalog(disk)
    check_sums(catalog)
    assert tables_of_copy(disk) == SimulatedTables(disk).content, (
        "the second copy has other content"
    )
    if is_older:
        forget_sums(catalog)
    return catalog


def check_sums(catalog: Catalog) -> None:
    """Checks that the metadata has the sums over all entries, unless an older version made the last commit."""
    sizes = [entry.size for _, entry in catalog.paths()]
    meta = catalog.meta()
    assert meta.streams == len(sizes), "the catalog has another number of streams"
    assert meta.stored in (UNCOUNTED, sum(sizes)), "the catalog has another number of bytes"


def forget_sums(catalog: TableCatalog) -> None:
    """Makes a commit as an older version would, which did not count the bytes of streams."""
    write_sums(catalog, catalog.meta().streams, UNCOUNTED)


def write_sums(catalog: TableCatalog, streams: int, stored: int) -> None:
    """Writes any numbers of streams and bytes to the metadata."""

    def fill(transaction: WriteTransaction) -> None:
        meta = transaction.meta()
        transaction.put_meta(catalog._counted(meta, meta, streams, stored))

    catalog._write(fill)
