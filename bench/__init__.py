"""Measures what the suite costs, as ratios within one run: `python -m bench`."""
