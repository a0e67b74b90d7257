"""The process that a test runs in: namespaces, clone, channel, wire."""
