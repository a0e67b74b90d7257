"""Tests of the frames that a call sends."""
