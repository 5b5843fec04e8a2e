"""A bucket of moto's S3 server, behind a relay that can cut its answers."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

NAME, PREFIX = "models", "prod"
KEY, SECRET = "testing-key-of-s3", "testing-secret-of-s3"


class Bucket:
    """A bucket.

    Attributes:
        variables: what a client of it needs in its environment.
        ranges: of the requests for each file, by its last name: the header Range.
        cuts: answers that ended too early.
    """

    address = f"s3://{NAME}/{PREFIX}"

    def __init__(self) -> None:
        self.variables: dict[str, str] = {}
        self.ranges: dict[str, list[str]] = {}
        self.cuts = 0
        self._cut: tuple[str, int, int] | None = None
        self._client: Any = None

    def connect(self, port: int) -> None:
        """Make the bucket, on the server at this port."""
        self.variables = {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_DEFAULT_REGION": "us-east-1",
        }
        self._client = boto3.client(
            "s3",
            endpoint_url=self.variables["AWS_ENDPOINT_URL"],
            aws_access_key_id=KEY,
            aws_secret_access_key=SECRET,
            region_name="us-east-1",
        )
        self._client.create_bucket(Bucket=NAME)
        # The servers of one process share what they hold.
        self.delete("")

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def upload(self, root: Path) -> None:
        """Put the files of a folder below the prefix, the manifests last."""
        files = [path for path in root.rglob("*") if path.is_file()]
        for path in sorted(files, key=lambda path: path.name == "manifest.json"):
            key = f"{PREFIX}/{path.relative_to(root).as_posix()}"
            self._client.put_object(Bucket=NAME, Key=key, Body=path.read_bytes())

    def delete(self, prefix: str) -> None:
        """Delete all files whose keys begin like that."""
        found = self._client.list_objects_v2(Bucket=NAME, Prefix=prefix)
        for each in found.get("Contents", []):
            self._client.delete_object(Bucket=NAME, Key=each["Key"])

    def cut_answers(self, name: str, *, after: int, from_byte: int) -> None:
        """End the answers for a file early.

        Args:
            name: the last part of its key.
            after: bytes that are sent.
            from_byte: only answers that begin there or later.
        """
        self._cut = (name, after, from_byte)

    def cut_nothing(self) -> None:
        """Send whole answers again."""
        self._cut = None

    def answered(
        self, application: Callable[..., Iterable[bytes]]
    ) -> Callable[..., Iterable[bytes]]:
        """The application, with its answers cut."""

        def answer(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
            body = b"".join(application(environ, start_response))
            name = environ["PATH_INFO"].rpartition("/")[2]
            asked = environ.get("HTTP_RANGE", "")
            if environ["REQUEST_METHOD"] == "GET" and asked:
                self.ranges.setdefault(name, []).append(asked)
            start = re.match(r"bytes=(\d+)", asked)
            if self._cut and name == self._cut[0] and start and int(start[1]) >= self._cut[2]:
                self.cuts += 1
                yield body[: self._cut[1]]
                # The server closes the connection, in the middle of what it has announced.
                raise ConnectionAbortedError
            yield body

        return answer


class Handler(WSGIRequestHandler):
    """Logs nothing, and ends connections without a word."""

    def log(self, *_: Any) -> None:
        """Log nothing."""

    def log_request(self, *_: Any) -> None:
        """Log nothing."""


@contextmanager
def bucket_of_moto() -> Iterator[Bucket]:
    bucket = Bucket()
    application = DomainDispatcherApplication(create_backend_app)
    server = make_server(
        "127.0.0.1", 0, bucket.answered(application), threaded=True, request_handler=Handler
    )
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    bucket.connect(server.server_port)
    try:
        yield bucket
    finally:
        bucket.close()
        server.shutdown()
        thread.join()
        server.server_close()
