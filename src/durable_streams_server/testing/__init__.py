"""What tests of the server, and of what is built on it, are made with."""
