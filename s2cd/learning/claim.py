"""Whose a run's folder is: it holds one recipe on one DATA."""

import tomllib
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from s2cd.errors import S2cdError
from s2cd.learning.recipe import Recipe
from s2cd.learning.runfolder import to_toml, versions
from s2cd.output import completed, write_errors

if TYPE_CHECKING:
    from s2cd.learning.train import Ground

_FACTS = ("data", "data_sha256")


def claim_run(folder: Path, recipe: Recipe, ground: "Ground", resume: bool) -> None:
    """Take the run folder, or go on in it; another run's folder is refused."""
    facts = dict(zip(_FACTS, (ground.name, ground.fingerprint()), strict=True))
    text = f"{to_toml(asdict(recipe))}\n[run]\n{to_toml({**facts, **versions()})}"
    config = folder / "config.toml"
    with write_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    if not config.exists():
        with completed(config) as temporary:
            temporary.write_text(text)
        return
    if not resume:
        raise S2cdError(f"{folder} holds a run already. Give --resume to go on, or another -o")
    if _settings(config.read_text()) != _settings(text):
        raise S2cdError(
            f"{folder} holds a run of another recipe or DATA (config.toml). Name another"
        )


def release_run(folder: Path) -> None:
    """Give a folder back that was taken for a run of which no epoch came."""
    if (folder / "last.ckpt").exists():
        return
    (folder / "config.toml").unlink(missing_ok=True)
    with suppress(OSError):  # it holds something else
        folder.rmdir()


def _settings(text: str) -> dict[str, Any]:
    """All settings of a run; what its version did not know yet was as is usual now.

    Older versions put DATA beside the recipe.
    """
    try:
        told = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return {}
    facts = told.pop("run", {})
    own = {name: facts[name] for name in _FACTS if name in facts}
    return {**tomllib.loads(to_toml(asdict(Recipe()))), **told, **own}
