"""`s2cd --help` against a bare Typer program with two commands, in turn."""

import statistics
import subprocess
import sys
import time

BARE = """
import typer
app = typer.Typer()

@app.command()
def one(name: str) -> None:
    "Do one."

@app.command()
def two(name: str) -> None:
    "Do two."

app()
"""


def test_help_is_within_one_and_a_half_times_a_bare_program(tmp_path):
    bare = tmp_path / "bare.py"
    bare.write_text(BARE)

    def seconds(*words: str) -> float:
        began = time.perf_counter()
        subprocess.run([sys.executable, *words, "--help"], check=True, capture_output=True)
        return time.perf_counter() - began

    seconds("-m", "s2cd"), seconds(str(bare))
    ratios = [seconds("-m", "s2cd") / seconds(str(bare)) for _ in range(15)]
    print(f"s2cd --help takes {statistics.median(ratios):.2f} x a bare Typer program")
    assert statistics.median(ratios) <= 1.5
