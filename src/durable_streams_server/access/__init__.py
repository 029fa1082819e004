"""Recognises clients: static tokens from a file, signed URLs, and JSON Web Tokens of an identity provider."""
