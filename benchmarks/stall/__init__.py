"""Measures how long a cheap request waits during expensive operations of clients, and how much memory these take."""
