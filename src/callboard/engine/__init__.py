"""The engine: how it is started, reached, and what runs on it."""
