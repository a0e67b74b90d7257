"""Registers the plugin. What tests import is in probes/testing."""

pytest_plugins = ["probes.testing.fixtures", "probes.plugin.plugin"]
