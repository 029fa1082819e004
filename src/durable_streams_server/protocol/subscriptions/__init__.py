"""The rules of subscriptions: who is woken by which append, who holds a wake, and how far each has read (PROTOCOL 6, 7)."""
