"""Decides whether a request may reach the routes: its host, its access rights, and the limits of its client."""
