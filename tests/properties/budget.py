"""How many generated worlds a test tries.

Each is a whole run of the product, so the everyday number is small and the same worlds come every time. A long run
tries new ones:  LIFECYCLE_HYPOTHESIS_EXAMPLES=500 pytest tests/properties
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, Phase, settings

LONG = "LIFECYCLE_HYPOTHESIS_EXAMPLES"


def budget(everyday: int) -> settings:
    """Settings of a property test. Nothing is shrunk: a story that fails is small and named as it is."""
    examples = os.environ.get(LONG)
    return settings(
        max_examples=int(examples) if examples else everyday,
        derandomize=examples is None,
        database=None,
        deadline=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
        print_blob=True,
    )
