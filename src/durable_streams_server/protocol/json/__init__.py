"""JSON mode (PROTOCOL 9.1): how JSON bodies are validated and become wire bytes, without a parsed copy of them."""
