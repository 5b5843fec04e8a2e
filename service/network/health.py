"""`python -m service.network.health`: the container's health check, 0 if the service is ready.

It reads the environment itself: importing the settings every few seconds would cost more than the
check.
"""

from __future__ import annotations

import os
import ssl
import sys
import urllib.error
import urllib.request

TIMEOUT_S = 3.0


def main() -> int:
    """Ask the service on this machine whether it is ready; returns the exit code."""
    port = os.environ.get("SERVICE_PORT", "")
    if not port.isdecimal():  # Kubernetes sets tcp://10.1.2.3:8000 for a Service called `service`
        port = "8000"
    scheme = "https" if os.environ.get("SERVICE_TLS_CERTIFICATE") else "http"
    # It asks itself, by another name than that of the certificate.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    # A proxy in the environment is for the internet.
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
    )
    try:
        opener.open(f"{scheme}://127.0.0.1:{port}/readyz", timeout=TIMEOUT_S).close()
    except OSError as exc:
        detail = exc.read().decode() if isinstance(exc, urllib.error.HTTPError) else exc
        print(f"not ready: {detail}", file=sys.stderr)  # noqa: T201 - for `docker inspect`
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
