"""The control routes below `__ds`: subscriptions and their workers, and what the server tells about itself."""
