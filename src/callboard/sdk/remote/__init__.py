"""The library over HTTP: the same services and values, asked of a coordinator.

``transport`` sends requests to the coordinators, ``asking`` makes requests of calls and values
of answers, ``services`` puts that in place of the methods that need an engine, ``streams``
follows what is live, and ``app`` is what ``connect("http://…")`` gives.
"""
