"""A small run of the damage sweep. `make damage` is the large one."""

from tests.damage.sweep import sweep

TRIALS = 60


def test_random_damage_never_causes_traceback_wrong_bytes_or_unreported_loss() -> None:
    failures = sweep(0, TRIALS)
    assert not failures, "\n".join(failures)
