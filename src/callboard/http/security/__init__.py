"""Who may ask a coordinator, how much, and how often.

``secure`` puts the guard before an application; ``server.server_options`` are for the server.
"""

from callboard.http.security.guard import Guard, secure
from callboard.http.security.settings import AccessSettings, TlsSettings, bound_to

__all__ = ["AccessSettings", "Guard", "TlsSettings", "bound_to", "secure"]
