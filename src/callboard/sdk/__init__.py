"""What programs are written with: the worker, and tools for tests."""
