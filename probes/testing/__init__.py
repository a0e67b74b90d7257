"""What tests import: behaviours, expectations, socket kinds, prepared states, blocked calls, observers of /proc."""

from probes.testing.behaviours import behaviour
from probes.testing.expect import Broke, need, not_applicable
from probes.testing.reference import AbiDifference, VersionDifference

__all__ = ["AbiDifference", "Broke", "VersionDifference", "behaviour", "need", "not_applicable"]
