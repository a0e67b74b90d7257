"""Maintainers' scripts; none of them is needed to judge."""
