"""The certificate of the servers that speak TLS: made for a run, and trusted by its load."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

DIRECTORY = "NETPOLL_BENCHMARK_CERTIFICATE"
"""The environment variable that names the directory with..."""
CHAIN = "server.pem"
"""... the server's key and certificates, and..."""
AUTHORITY = "authority.pem"
"""... whom the load is to trust."""
NAME = "localhost"


@contextlib.contextmanager
def make() -> Iterator[dict[str, str]]:
    """Make both; yield the variable that the server and the load are told by."""
    import trustme

    issuer = trustme.CA()
    with tempfile.TemporaryDirectory(prefix="netpoll-benchmark-") as directory:
        issuer.cert_pem.write_to_path(str(Path(directory, AUTHORITY)))
        key = issuer.issue_cert(NAME).private_key_and_cert_chain_pem
        key.write_to_path(str(Path(directory, CHAIN)))
        yield {DIRECTORY: directory}


def chain() -> Path:
    return Path(os.environ[DIRECTORY], CHAIN)


def authority() -> Path:
    return Path(os.environ[DIRECTORY], AUTHORITY)
