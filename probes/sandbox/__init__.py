"""Make the process that a test runs in: clone, namespaces, the channel to its parent, the wire."""
