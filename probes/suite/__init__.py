"""The pytest plugin: behaviours, each judged in its own sandbox, with evidence. What tests import is here."""

from probes.suite.behaviours import behaviour
from probes.suite.expect import Broke, need, not_applicable

__all__ = ["Broke", "behaviour", "need", "not_applicable"]
