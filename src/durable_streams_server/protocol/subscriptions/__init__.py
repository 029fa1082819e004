"""The rules of subscriptions: which appends wake them, who holds a wake, and how far each stream was read (PROTOCOL 6, 7)."""
