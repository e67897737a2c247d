"""The operations: each checks its input, calls one function, returns a frozen value."""
