"""Decides commands: pure functions from (states, command, now) to the changes of one record and an outcome."""
