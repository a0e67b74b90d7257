"""What the suite costs, as ratios of one run: `python -m bench`."""
