"""The rules of subscriptions: which appends wake them, who holds a wake, and how far each has read (PROTOCOL 6, 7)."""
