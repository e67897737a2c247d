"""The coordinator service: every operation over HTTP, live streams, and push dispatch.

Any number of coordinators may stand on one engine. None holds any state of its own.
"""
