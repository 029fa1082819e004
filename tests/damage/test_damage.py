"""A small run of the sweep; `make damage` is the large one."""

from tests.damage.sweep import sweep

TRIALS = 60


def test_damaged_files_lead_to_no_traceback_no_wrong_byte_and_no_stream_lost_without_a_word() -> (
    None
):
    assert sweep(0, TRIALS) == []
