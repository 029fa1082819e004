"""Counts the server's responses, and shows the counts as metrics."""
