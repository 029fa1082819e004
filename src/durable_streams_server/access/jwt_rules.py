"""What the operator demands of JSON Web Tokens. Separate from their verification, because settings need no cryptography."""

from collections.abc import Sequence
from typing import Final

import msgspec

from ..protocol.arguments import require, require_each

#: The algorithms that an operator may allow. All of them are asymmetric: with HMAC, everybody who can verify a token could also issue one.
ALGORITHMS: Final = (
    "EdDSA",
    "ES256",
    "ES384",
    "ES512",
    "RS256",
    "RS384",
    "RS512",
    "PS256",
    "PS384",
    "PS512",
)
#: The algorithms that are allowed unless the operator names others.
USUAL_ALGORITHMS: Final = ("EdDSA", "ES256", "RS256")
#: Seconds by which the clocks of the provider and of the server may differ.
DEFAULT_LEEWAY: Final = 30
#: Maximum value of the leeway in seconds.
LONGEST_LEEWAY: Final = 600


class JwtRules(msgspec.Struct, frozen=True):
    """What the operator demands of JSON Web Tokens.

    Attributes:
        issuer: the value that `iss` must have.
        audience: the value that `aud` must have or contain.
        algorithms: the allowed algorithms.
        leeway: seconds by which the clocks may differ. It lengthens the life of each token.
    """

    issuer: str
    audience: str
    algorithms: Sequence[str] = USUAL_ALGORITHMS
    leeway: int = DEFAULT_LEEWAY

    def __post_init__(self) -> None:
        """Checks the rules.

        Raises:
            TypeError: a value has the wrong type.
            ValueError: the issuer or the audience is missing, an algorithm is not allowed, or the leeway is out of range.
        """
        require(str, issuer=self.issuer, audience=self.audience)
        require_each(str, "names", algorithms=self.algorithms)
        require(int, leeway=self.leeway)
        if not self.issuer or not self.audience:
            raise ValueError("JSON Web Tokens need an issuer and an audience")
        if not self.algorithms:
            raise ValueError("JSON Web Tokens need at least one algorithm")
        for algorithm in self.algorithms:
            if algorithm not in ALGORITHMS:
                raise ValueError(
                    f"{algorithm} is not an allowed algorithm; these are: {', '.join(ALGORITHMS)}"
                )
        if not 0 <= self.leeway <= LONGEST_LEEWAY:
            raise ValueError(f"the leeway must be from 0 to {LONGEST_LEEWAY} seconds")
