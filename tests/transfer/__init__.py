"""Tests of what the calls that send and receive carry and change."""
