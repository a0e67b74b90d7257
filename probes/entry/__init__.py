"""Makes calls: memory, gates, routes, the swept loop."""
