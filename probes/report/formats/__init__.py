"""The files that are written from the results of a run."""
