"""Implicit Q-Learning as pure functions; nothing here knows of files, environments or logging."""
