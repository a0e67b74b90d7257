"""The pytest plugin: behaviours, each judged in its own sandbox, with evidence. What tests import is here."""

from probes.suite.behaviours import behaviour
from probes.suite.expect import Broke, need, not_applicable
from probes.suite.reference import Changed, Difference

__all__ = ["Broke", "Changed", "Difference", "behaviour", "need", "not_applicable"]
