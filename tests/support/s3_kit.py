"""An S3 on loopback, by moto, for all tests of a module: fsspec keeps its connections."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

SECRET = "s3cr3t" * 5


@dataclass(frozen=True)
class S3:
    """A server with one bucket.

    Attributes:
        environment: What reaches it, keys among them.
        client: Of boto3.
        bucket: The bucket's name.
    """

    environment: dict[str, str]
    client: Any
    bucket: str = "trainings"

    def push(self, folder: Path, below: str) -> str:
        """Have all files of a folder lie below a name in the bucket; return the address of that."""
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                name = f"{below}/{path.relative_to(folder).as_posix()}"
                self.client.upload_file(str(path), self.bucket, name)
        return f"s3://{self.bucket}/{below}"

    def delete(self, below: str) -> None:
        """Delete all below a name, one after the other."""
        found = self.client.list_objects_v2(Bucket=self.bucket, Prefix=f"{below}/")
        for it in found.get("Contents", ()):
            self.client.delete_object(Bucket=self.bucket, Key=it["Key"])


@contextmanager
def serve() -> Iterator[S3]:
    """Run it; skips where moto or s3fs is not installed."""
    server = pytest.importorskip("moto.server")
    pytest.importorskip("s3fs")
    import boto3

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    running = server.ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    environment = {
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    try:
        with pytest.MonkeyPatch.context() as patch:
            for name, value in environment.items():
                patch.setenv(name, value)
            client = boto3.client("s3")
            s3 = S3(environment, client)
            client.create_bucket(Bucket=s3.bucket)
            yield s3
            client.close()
    finally:
        running.stop()
