"""Where a run can be watched: TensorBoard always, MLflow where it was asked for."""

import logging
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from s2cd.errors import S2cdError
from s2cd.learning.run import Row
from s2cd.networks.shim import mend_torchvision

mend_torchvision()

from lightning.pytorch.loggers import Logger, MLFlowLogger, TensorBoardLogger  # noqa: E402

_NOTE = "mlflow.txt"
"""In a run's folder: the run of MLflow that a resumed one goes on with."""


def trackers(folder: Path, mlflow: bool) -> list[Logger]:
    """TensorBoard's events in the run's folder; MLflow's sqlite store beside it.

    Raises:
        S2cdError: where MLflow was asked for and is not installed.
    """
    board = TensorBoardLogger(folder, name="", version="")
    return [board, _mlflow(folder)] if mlflow else [board]


def _mlflow(folder: Path) -> Logger:
    from importlib.util import find_spec

    if find_spec("mlflow") is None:
        raise S2cdError("MLflow is not installed. Install s2cd[mlflow], or leave --mlflow out")
    logging.getLogger("alembic").setLevel(logging.WARNING)  # it tells each step of a new store
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    note, store = folder / _NOTE, folder.resolve().parent / "mlflow.db"
    known = note.read_text() if note.exists() else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its own dependencies
        logger = MLFlowLogger(
            experiment_name="s2cd",
            run_name=folder.name,
            tracking_uri=f"sqlite:///{store}",
            artifact_location=(store.parent / "mlflow").as_uri(),
            run_id=known,
        )
        note.write_text(str(logger.run_id))
    return logger


def track_settings(loggers: list[Logger], settings: dict[str, Any]) -> None:
    """Tell what the run is made of."""
    for logger in loggers:
        if isinstance(logger, MLFlowLogger):
            logger.log_hyperparams(settings)
        elif isinstance(logger, TensorBoardLogger):
            lines = "\n".join(f"    {key} = {value}" for key, value in settings.items())
            logger.experiment.add_text("recipe", lines, 0)


def track(loggers: list[Logger], row: Row, picture: NDArray[np.uint8]) -> None:
    """Tell an epoch: its row, and a picture (y, x, 3) of fixed windows."""
    step = int(row["epoch"])
    numbers = {key: value for key, value in row.items() if key != "epoch"}
    for logger in loggers:
        logger.log_metrics(numbers, step)
        if isinstance(logger, TensorBoardLogger):
            logger.experiment.add_image("windows", picture, step, dataformats="HWC")
            logger.experiment.flush()
        elif isinstance(logger, MLFlowLogger):
            logger.experiment.log_image(
                str(logger.run_id), picture, artifact_file=f"windows/{step:03d}.png"
            )
