"""Ask a coordinator in this container whether it lives; the exit code says so.

Its settings are read where it reads them, from the environment.
"""

import http.client
import os
import socket
import ssl

TIMEOUT = 2


def main() -> None:
    """Ask ``/health``; raises, and so ends with 1, unless the answer is 200."""
    connection: http.client.HTTPConnection
    if path := os.environ.get("CALLBOARD_UDS"):
        connection = http.client.HTTPConnection("localhost", timeout=TIMEOUT)
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.settimeout(TIMEOUT)
        connection.sock.connect(path)
    elif os.environ.get("CALLBOARD_TLS_CLIENT_CA"):
        # It answers only those who show a certificate: that it takes connections must do.
        port = int(os.environ.get("CALLBOARD_PORT") or 9001)
        socket.create_connection(("127.0.0.1", port), TIMEOUT).close()
        return
    elif os.environ.get("CALLBOARD_TLS_CERT"):
        # The name on the certificate is for callers, and this machine is no stranger.
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        port = int(os.environ.get("CALLBOARD_PORT") or 9001)
        connection = http.client.HTTPSConnection(
            "127.0.0.1", port, timeout=TIMEOUT, context=context
        )
    else:
        port = int(os.environ.get("CALLBOARD_PORT") or 9001)
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT)
    connection.request("GET", "/health")
    status = connection.getresponse().status
    if status != 200:
        raise SystemExit(f"/health answered {status}")


if __name__ == "__main__":
    main()
