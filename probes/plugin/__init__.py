"""The pytest plugin: collects behaviours, runs each test in its sandbox, gives verdicts."""
