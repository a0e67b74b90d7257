"""Makes pytest's fixture `request` cheap: pytest defines it anew, and inspects a signature, whenever a fixture asks for it.

That is two times for each fixture and each parameter of a test, in the forked process, and a tenth of what a test costs.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import _pytest.fixtures as fixtures
import pytest

_NAME = "RequestFixtureDef"


def make_cheap(config: pytest.Config) -> None:
    """Makes later definitions of `request` copies of one, but for the request, until the session ends.

    It changes nothing in a pytest that has no such class.
    """
    original = getattr(fixtures, _NAME, None)
    if not isinstance(original, type):
        return
    common = vars(original(SimpleNamespace(config=config, node=SimpleNamespace(nodeid="")))).copy()

    def define(request: pytest.FixtureRequest) -> Any:
        defined: Any = object.__new__(original)
        vars(defined).update(common, node=request.node, cached_result=(request, [0], None))
        return defined

    setattr(fixtures, _NAME, define)
    config.add_cleanup(lambda: setattr(fixtures, _NAME, original))
