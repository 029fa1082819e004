"""Tools for tests: a simulated disk and a catalog on it."""
