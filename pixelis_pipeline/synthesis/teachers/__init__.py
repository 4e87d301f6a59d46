"""The two teachers that need no API: the world's own truth, and programs over annotations."""
