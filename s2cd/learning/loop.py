"""The loop, by Lightning: an epoch is a function of its number and of the state of the run."""

import logging
import math
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from s2cd.errors import S2cdError
from s2cd.learning.chips import Chips
from s2cd.learning.run import Report, Row, Training, average, loss_of, rate_at
from s2cd.networks.shim import mend_torchvision

mend_torchvision()  # Lightning's metrics import it

from lightning.fabric.utilities.warnings import PossibleUserWarning  # noqa: E402
from lightning.pytorch import Callback, LightningModule, Trainer  # noqa: E402
from lightning.pytorch.loggers import Logger  # noqa: E402

logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)  # it greets, and advertises


@dataclass
class Batches:
    """The batches of the next epoch as tensors, and for how many seconds they were waited for."""

    run: Training
    chips: Chips
    waited: float = field(default=0.0)

    def __len__(self) -> int:
        return self.run.steps

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        batches = self.chips.epoch(len(self.run.history), self.run.steps)
        while True:
            asked = time.monotonic()
            batch = next(batches, None)
            self.waited += time.monotonic() - asked
            if batch is None:
                return
            yield torch.from_numpy(batch[0]), torch.from_numpy(batch[1])


class Learner(LightningModule):
    """What a step is."""

    def __init__(self, run: Training) -> None:
        super().__init__()
        self.training_run = run
        self.network = run.network
        self.loss_of = loss_of(run.recipe)
        self.total = 0.0

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """The optimiser of the run, which is restored with it."""
        return self.training_run.optimizer

    def on_train_epoch_start(self) -> None:
        """Begin at a seed of this epoch: dropout keeps no state that would have to be saved."""
        run = self.training_run
        torch.manual_seed(run.recipe.seed * 100_003 + len(run.history) + 1)
        self.network.train()
        self.total = 0.0

    def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
        """The loss of a batch, at the learning rate of its step."""
        run = self.training_run
        for group in run.optimizer.param_groups:
            group["lr"] = rate_at(run, len(run.history) * run.steps + index)
        loss = self.loss_of(self.network(batch[0]), batch[1])
        self.total += float(loss.detach())
        return loss

    def configure_gradient_clipping(self, optimizer: Any, *_: Any, **__: Any) -> None:
        """By the norm; Lightning's own refuses the fused step under bf16, which scales nothing."""
        if self.training_run.recipe.clip:
            nn.utils.clip_grad_norm_(self.network.parameters(), self.training_run.recipe.clip)


class Averaging(Callback):
    """Keeps the average of the weights of all steps."""

    def on_train_batch_end(self, trainer: Any, learner: Any, *_: Any) -> None:
        """After each step."""
        average(learner.training_run)


class Telling(Callback):
    """Tells how far the run is."""

    def __init__(self, report: Report) -> None:
        self.report = report

    def on_train_batch_end(
        self, trainer: Any, learner: Any, outputs: Any, batch: Any, index: int
    ) -> None:
        """After each step."""
        run = learner.training_run
        self.report(len(run.history) * run.steps + index + 1, run.recipe.epochs * run.steps)


class Epochs(Callback):
    """At the end of each epoch: judge it, write what is to be kept, and stop where it is over."""

    def __init__(self, batches: Batches, keep: Callable[[Row], None]) -> None:
        self.batches, self.keep, self.began = batches, keep, 0.0

    def on_train_start(self, trainer: Any, learner: Any) -> None:
        """Let a terminated run die at once: Lightning would finish its epoch first."""
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def on_train_epoch_start(self, trainer: Any, learner: Any) -> None:
        """Begin to measure."""
        self.began, self.batches.waited = time.monotonic(), 0.0

    def on_train_epoch_end(self, trainer: Any, learner: Any) -> None:
        """Tell the epoch."""
        run = learner.training_run
        if not math.isfinite(learner.total):
            raise S2cdError(
                "The loss is no longer a number. Give a lower --rate, or check the data"
            )
        seconds = time.monotonic() - self.began
        epoch = len(run.history) + 1
        row = {"epoch": epoch, "loss": learner.total / run.steps}
        row |= {"rate": rate_at(run, epoch * run.steps - 1)}
        row |= {"waited": round(self.batches.waited / max(seconds, 1e-9), 4), "seconds": seconds}
        self.keep(row)
        trainer.should_stop = run.is_over


def fit(
    run: Training, chips: Chips, keep: Callable[[Row], None], report: Report, loggers: list[Logger]
) -> None:
    """Learn until the run is over; ``keep`` takes each epoch's row, with the network in `run`."""
    if run.is_over:
        return
    batches = Batches(run, chips)
    trainer = Trainer(
        accelerator="gpu" if next(run.network.parameters()).is_cuda else "cpu",
        devices=1,
        precision="bf16-mixed" if run.recipe.precision == "bf16" else "32-true",
        max_epochs=run.recipe.epochs,
        callbacks=[Averaging(), Telling(report), Epochs(batches, keep)],
        logger=loggers,
        log_every_n_steps=1,
        enable_checkpointing=False,  # of pickles: the state is kept by `keep`
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_autolog_hparams=False,
        use_distributed_sampler=False,
    )
    progress: Any = trainer.fit_loop.epoch_progress.current
    progress.processed = len(run.history)
    _call(trainer, Learner(run), batches)


def _call(trainer: Trainer, learner: Learner, batches: Batches) -> None:
    """Fit; Ctrl-C stays Ctrl-C, where Lightning would exit the process."""
    handler = signal.getsignal(signal.SIGINT)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PossibleUserWarning)
            warnings.filterwarnings("ignore", ".*LeafSpec", FutureWarning)  # Lightning's own use
            trainer.fit(learner, batches)
    except SystemExit as e:
        signal.signal(signal.SIGINT, handler)
        raise KeyboardInterrupt from e
