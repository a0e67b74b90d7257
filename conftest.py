"""Registers the plugin. Everything else that tests ask for is in probes/suite."""

pytest_plugins = ["probes.suite.fixtures", "probes.suite.plugin"]
