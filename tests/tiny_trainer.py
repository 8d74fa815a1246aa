"""A Trainer of a tiny BERT with random weights on made-up data: no hub, no tokenizer, a second of training."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_VERBOSITY"] = "error"

import torch
import transformers
from tiny_scripts import failing, interrupting, say  # noqa: F401 - for the tests
from transformers import BertConfig, BertForSequenceClassification, TrainerCallback, TrainingArguments

from xtrack_protocol.integrations.transformers import XTrackCallback  # noqa: F401 - for the tests

transformers.utils.logging.disable_progress_bar()


def tiny_model():
    torch.manual_seed(0)
    return BertForSequenceClassification(
        BertConfig(
            vocab_size=32,
            hidden_size=8,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=8,
            max_position_embeddings=8,
        )
    )


def tiny_data(count=64):
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randint(0, 32, (count, 6), generator=generator)
    return [{"input_ids": row, "labels": row.sum() % 2} for row in tokens]


def tiny_arguments(out, **options):
    """Eight steps an epoch, three epochs, where one process trains."""
    chosen = {
        "per_device_train_batch_size": 8,
        "num_train_epochs": 3,
        "learning_rate": 1e-3,
        "logging_steps": 2,
        "eval_strategy": "epoch",
        "save_strategy": "epoch",
        "use_cpu": True,
        "dataloader_pin_memory": False,
        "report_to": [],
        "disable_tqdm": True,
        **options,
    }
    return TrainingArguments(output_dir=str(out), **chosen)


def tiny_trainer(out, *callbacks, compute_metrics=None, trainer=transformers.Trainer, **options):
    data = tiny_data()
    return trainer(
        model=tiny_model(),
        args=tiny_arguments(out, **options),
        train_dataset=data,
        eval_dataset=data[:16],
        compute_metrics=compute_metrics,
        callbacks=list(callbacks),
    )


class AtStep(TrainerCallback):
    """Does something after a step."""

    def __init__(self, step, action):
        self.step, self.action = step, action

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == self.step:
            self.action()
