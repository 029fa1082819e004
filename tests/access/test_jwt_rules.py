"""Tests of what an operator can demand of JSON Web Tokens."""

import pytest

from durable_streams_server.access.jwt_rules import ALGORITHMS, USUAL_ALGORITHMS, JwtRules


def test_usual_rules_allow_three_asymmetric_algorithms_and_30_seconds() -> None:
    rules = JwtRules("https://login.example", "streams")
    assert (rules.algorithms, rules.leeway) == (("EdDSA", "ES256", "RS256"), 30)
    assert set(USUAL_ALGORITHMS) <= set(ALGORITHMS)


@pytest.mark.parametrize("algorithm", ["none", "None", "HS256", "HS384", "HS512", "ES256K", ""])
def test_symmetric_and_unknown_algorithms_cannot_be_allowed(algorithm: str) -> None:
    with pytest.raises(ValueError, match="is not an allowed algorithm"):
        JwtRules("i", "a", ("RS256", algorithm))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("", "a"), "an issuer and an audience"),
        (("i", ""), "an issuer and an audience"),
        (("i", "a", ()), "at least one algorithm"),
        (("i", "a", ("RS256",), -1), "the leeway must be from 0 to 600 seconds"),
        (("i", "a", ("RS256",), 601), "the leeway must be from 0 to 600 seconds"),
    ],
)
def test_incomplete_rules_are_refused(arguments: tuple[object, ...], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        JwtRules(*arguments)  # type: ignore[arg-type]  # the types differ between the cases


def test_leeway_may_be_zero_and_ten_minutes() -> None:
    assert JwtRules("i", "a", leeway=0).leeway == 0
    assert JwtRules("i", "a", leeway=600).leeway == 600
