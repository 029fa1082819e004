"""How long a cheap request waits beside each thing that a client can make the server do, and what that costs in memory."""
