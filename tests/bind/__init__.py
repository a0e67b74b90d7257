"""Tests of bind."""
