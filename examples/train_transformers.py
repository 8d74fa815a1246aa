"""Train a tiny BERT with the Hugging Face Trainer, tracked with XTrack. Nothing is downloaded.

    python examples/train_transformers.py
    python examples/train_transformers.py --run-id my-run --crash-at-step 20    # fails, after a checkpoint at step 16
    python examples/train_transformers.py --run-id my-run --resume              # the same run goes on from there
    torchrun --nproc-per-node 2 examples/train_transformers.py                  # two processes, one run

The model learns to tell whether a row of digits has more even ones than odd ones. Needs
`pip install transformers accelerate torch`. The lines with `XTrack` or `tracking` are the whole of the tracking.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    EvalPrediction,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    set_seed,
)

from xtrack_protocol.integrations.transformers import XTrackCallback

DIGITS = 9
"""Of each row: an odd number, so that there is no draw."""


class CrashAt(TrainerCallback):
    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002 - as it is called
        if state.global_step == self.step:
            raise RuntimeError(f"crashed at step {self.step}, as --crash-at-step asked")


def make_data(count: int, seed: int) -> list[dict[str, torch.Tensor]]:
    rows = torch.randint(0, 10, (count, DIGITS), generator=torch.Generator().manual_seed(seed))
    return [{"input_ids": row, "labels": ((row % 2 == 0).sum() > DIGITS // 2).long()} for row in rows]


def build_model() -> BertForSequenceClassification:
    config = BertConfig(
        vocab_size=10,
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=DIGITS,
    )
    return BertForSequenceClassification(config)


def accuracy(prediction: EvalPrediction) -> dict[str, float]:
    return {"accuracy": float((prediction.predictions.argmax(1) == prediction.label_ids).mean())}


def main() -> None:
    parser = argparse.ArgumentParser(description="Train a tiny BERT with the Trainer and XTrack.")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--lr", type=float, default=0.005, help="learning rate")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--run-id", help="the run's id; a new one by default")
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint")
    parser.add_argument("--crash-at-step", type=int, default=0, metavar="N", help="raise an exception at this step")
    parser.add_argument("--all-ranks", action="store_true", help="log the metrics of every process, not only of rank 0")
    parser.add_argument("--out", type=Path, default=Path("digits"), metavar="DIR", help="where checkpoints go")
    options = parser.parse_args()
    set_seed(options.seed)
    arguments = TrainingArguments(
        output_dir=str(options.out),
        num_train_epochs=options.epochs,
        learning_rate=options.lr,
        per_device_train_batch_size=32,
        per_device_eval_batch_size=128,
        logging_steps=4,
        eval_strategy="epoch",
        save_strategy="epoch",
        save_total_limit=2,
        load_best_model_at_end=True,
        metric_for_best_model="accuracy",
        seed=options.seed,
        use_cpu=True,
        dataloader_pin_memory=False,
        disable_tqdm=True,
        report_to=[],
    )
    tracking = XTrackCallback("digits", run_id=options.run_id, all_ranks=options.all_ranks)
    trainer = Trainer(
        model=build_model(),
        args=arguments,
        train_dataset=make_data(512, options.seed),
        eval_dataset=make_data(256, options.seed + 1),
        compute_metrics=accuracy,
        callbacks=[tracking, CrashAt(options.crash_at_step)],
    )
    trainer.train(resume_from_checkpoint=options.resume or None)
    best = trainer.evaluate()  # of the best checkpoint, which has been loaded
    if trainer.is_world_process_zero():
        print(f"best accuracy {best['eval_accuracy']:.4f} in {trainer.state.best_model_checkpoint}")


if __name__ == "__main__":
    main()
