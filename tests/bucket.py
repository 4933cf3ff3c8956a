"""A real S3 on this machine (moto's), in a process of its own, which can be killed.

    with Buckets(folder) as s3:
        s3.put("stacks/a.tif", path); s3.keys("out/"); s3.seen(); s3.fail("PUT")

It checks signatures and rights as AWS does: `s3.owner` may do all, `s3.reader` only read; both are
what the environment of a client has to be. Files of `s3.plain` lie at `s3.url`/plain/ for everyone.
Run as a program it serves, and notes each request.
"""

import json
import socket
import subprocess
import sys
import threading
import urllib.request
from pathlib import Path

BUCKET = "s2cd-test"
_READ = ["s3:GetObject", "s3:ListBucket", "s3:ListAllMyBuckets"]


class Buckets:
    """The server, its bucket, and two users."""

    def __init__(self, folder: Path):
        self.folder, self.log = folder, folder / "seen.jsonl"
        self.fault = folder / "seen.fault"
        self.log.touch()
        self.plain = folder / "plain"
        self.plain.mkdir()
        command = [sys.executable, __file__, str(self.log)]
        with (folder / "said").open("w") as said:
            self.process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=said, text=True, cwd=folder
            )
        self.url = self.process.stdout.readline().strip()

    def __enter__(self):
        iam = self._client("iam", "any", "any")
        self.owner = self._user(iam, "owner", ["s3:*"])
        self.reader = self._user(iam, "reader", _READ)
        keys = (self.owner[f"AWS_{name}"] for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY"))
        self.s3 = self._client("s3", *keys)
        self.s3.create_bucket(Bucket=BUCKET)
        how = {"Content-Type": "text/plain"}
        ask = urllib.request.Request(f"{self.url}/moto-api/reset-auth", b"0", how)
        urllib.request.urlopen(ask).close()  # from here on keys are checked
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.communicate()

    def _client(self, service, key, secret):
        import boto3

        credentials = {"aws_access_key_id": key, "aws_secret_access_key": secret}
        return boto3.client(service, endpoint_url=self.url, region_name="us-east-1", **credentials)

    def _user(self, iam, name, actions):
        iam.create_user(UserName=name)
        rule = {"Effect": "Allow", "Action": actions, "Resource": "*"}
        policy = json.dumps({"Version": "2012-10-17", "Statement": [rule]})
        iam.put_user_policy(UserName=name, PolicyName="all", PolicyDocument=policy)
        key = iam.create_access_key(UserName=name)["AccessKey"]
        return {
            "AWS_ACCESS_KEY_ID": key["AccessKeyId"],
            "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"],
            "AWS_ENDPOINT_URL": self.url,
            "AWS_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def put(self, key: str, path: Path) -> str:
        """Put a file; its address."""
        self.s3.put_object(Bucket=BUCKET, Key=key, Body=path.read_bytes())
        return f"s3://{BUCKET}/{key}"

    def get(self, key: str) -> bytes:
        return self.s3.get_object(Bucket=BUCKET, Key=key)["Body"].read()

    def keys(self, prefix: str = "") -> list[str]:
        found = self.s3.list_objects_v2(Bucket=BUCKET, Prefix=prefix)
        return [one["Key"] for one in found.get("Contents", [])]

    def fail(self, method: str | None) -> None:
        """Have the server break off each answer to such requests (``*``: any) from now on."""
        self.fault.write_text(method or "")

    def seen(self, after: int = 0) -> list[dict]:
        """The requests so far: method, path, range, status, and bytes sent."""
        return [json.loads(line) for line in self.log.read_text().splitlines()[after:]]


class _Noted:
    """A WSGI application that writes down what it is asked and what it answers."""

    def __init__(self, app, log: Path):
        self.app, self.log, self.lock = app, log, threading.Lock()
        self.fault = log.with_suffix(".fault")
        self.plain = log.parent / "plain"

    def __call__(self, environ, start):
        note = {"method": environ["REQUEST_METHOD"], "path": environ["PATH_INFO"]}
        note["range"] = environ.get("HTTP_RANGE")

        def begin(status, headers, *more):
            note["status"] = int(status.split()[0])
            return start(status, headers, *more)

        fault = self.fault.read_text() if self.fault.exists() else ""
        if fault in ("*", note["method"]):
            environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
            raise ConnectionAbortedError
        app = self._file if note["path"].startswith("/plain/") else self.app
        body = b"".join(app(environ, begin))
        note["sent"] = len(body)
        with self.lock, self.log.open("a") as log:
            log.write(json.dumps(note) + "\n")
        return [body]

    def _file(self, environ, start):
        from werkzeug.exceptions import HTTPException
        from werkzeug.utils import send_from_directory

        name = environ["PATH_INFO"].removeprefix("/plain/")
        try:
            return send_from_directory(self.plain, name, environ)(environ, start)
        except HTTPException as e:
            return e(environ, start)


def serve(log: Path) -> None:
    from moto.moto_server.werkzeug_app import (
        DomainDispatcherApplication,
        MotoRequestHandler,
        create_backend_app,
    )
    from werkzeug.serving import make_server

    app = _Noted(DomainDispatcherApplication(create_backend_app), log)
    server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=MotoRequestHandler)
    print(f"http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
