"""The pytest plugin: behaviours, each judged in its own sandbox, with evidence. What tests import is here."""

from probes.testing.behaviours import behaviour
from probes.testing.expect import Broke, need, not_applicable
from probes.testing.reference import AbiDifference, VersionDifference

__all__ = ["AbiDifference", "Broke", "VersionDifference", "behaviour", "need", "not_applicable"]
