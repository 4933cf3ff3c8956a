"""A process that has imported what commands need, and starts them by forking.

    with Starter() as starter:
        done = starter.run(["detect", "a.tif", "b.tif", "-o", "c.tif"], folder)

What it starts is a process like any other, but for the seconds that importing takes.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path


class Starter:
    """Holds the process, from its first command on."""

    def __enter__(self):
        self.process = None
        return self

    def __exit__(self, *_):
        if self.process is not None:
            self.process.stdin.close()
            self.process.stdout.close()
            self.process.wait()

    def run(self, words, cwd: Path) -> subprocess.CompletedProcess:
        """Run ``s2cd`` with these words in a folder, with the environment of now."""
        if self.process is None:
            self.process = subprocess.Popen(
                [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
        args = [str(word) for word in words]
        with tempfile.TemporaryDirectory() as folder:
            job = {"args": args, "cwd": str(cwd), "env": dict(os.environ), "said": folder}
            self.process.stdin.write(json.dumps(job) + "\n")
            self.process.stdin.flush()
            code = int(self.process.stdout.readline())
            said = [(Path(folder) / name).read_text() for name in ("stdout", "stderr")]
        return subprocess.CompletedProcess(args, code, *said)


def command(job: dict) -> None:
    """Be the process of a command; does not return."""
    for number, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(Path(job["said"]) / name, os.O_WRONLY | os.O_CREAT), number)
    os.chdir(job["cwd"])
    os.environ.clear()
    os.environ.update(job["env"])
    sys.argv = ["s2cd", *job["args"]]
    from s2cd.cli import main

    main()


def serve() -> None:
    import odc.geo.xr  # noqa: F401
    import zarr  # noqa: F401

    import s2cd.cli
    import s2cd.detection.detect  # noqa: F401

    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            command(json.loads(line))
            raise SystemExit
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    serve()
