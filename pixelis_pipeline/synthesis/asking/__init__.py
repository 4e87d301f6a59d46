"""Asking a teacher: the client, its controllers, batches, the store of answers, and what it all costs."""
