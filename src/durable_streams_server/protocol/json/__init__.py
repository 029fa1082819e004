"""JSON mode (PROTOCOL 9.1): validates JSON bodies and cuts them into wire bytes without parsing them into objects."""
