"""Callboard measured beside its peers: same machine, same engine, same run."""
