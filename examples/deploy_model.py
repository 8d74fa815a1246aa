"""A service layer that tracks what it does: deployments begin when a training has ended well, and batches of items.

    python examples/deploy_model.py              # trains, and deploys what it has trained
    python examples/deploy_model.py --broken     # the deployment fails, and its run says why

The training knows nothing of deployments: a listener hears of its end.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from typing import Any

import xtrack_protocol as xtrack
from xtrack_protocol.emitter import HeardEvent


class DeploymentService:
    """Brings models to where they are used; each time is a run of the experiment ``model-deployments``."""

    def __init__(self, release: Callable[[str, str], str]) -> None:
        self.release = release
        self.runs = xtrack.Tracker.experiment("model-deployments").with_tag("team", "serving").create()

    def deploy(self, model: str, version: str, *, trained_by: str) -> str:
        """Deploy a model and return its URL. Raises what the release raises; the run has it by then."""
        run = (
            self.runs.with_name(f"{model}-{version}")
            .with_parent(trained_by)
            .with_params({"model": model, "version": version})
            .with_tag("status", "deploying")
            .start()
        )
        with run:  # ends it: completed, or failed with the exception, which goes on
            try:
                url = self.release(model, version)
            except Exception:
                run.set_tag("status", "failed")
                raise
            run.set_tags({"status": "deployed", "deployment_url": url})
            return url

    def on_training_end(self, event: HeardEvent) -> None:
        if event.status == "completed" and event.metrics.get("accuracy", 0) > 0.8:
            print("deployed to", self.deploy("churn", "7", trained_by=event.run_id))


@xtrack.tracked(experiment="model-training", final_metrics=True)
def train(lr: float, epochs: int) -> dict[str, float]:
    for epoch in range(1, epochs + 1):
        xtrack.log_metric("loss", lr / epoch, step=epoch)
    return {"accuracy": 0.93}


@xtrack.tracked(experiment="batch-processing", params=False)
def process_batch(items: Iterable[Any], handle: Callable[[Any], None]) -> int:
    """Handle items, and tell how far it is; one that can't be handled costs only itself. Returns how many."""
    run = xtrack.current_run()
    assert run is not None
    done = failed = 0
    for number, item in enumerate(items):
        try:
            handle(item)
            done += 1
        except ValueError as error:
            failed += 1
            run.log(f"item {number}: {error}", level="warning")
        if number % 10 == 0:
            run.log_metrics({"processed": done, "failed": failed}, step=number)
    total = done + failed
    run.log_batch(
        metrics=[
            {"key": "total_processed", "value": done},
            {"key": "total_failed", "value": failed},
            {"key": "success_rate", "value": done / total if total else float("nan")},
        ],
        params={"total_items": total},
    )
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description="Train, deploy, and process a batch; all of it tracked.")
    parser.add_argument("--broken", action="store_true", help="the deployment fails")
    options = parser.parse_args()

    def release(model: str, version: str) -> str:
        if options.broken:
            raise ConnectionError("the cluster doesn't answer")
        return f"https://models.example.com/{model}/{version}"

    with xtrack.listen(on_end=DeploymentService(release).on_training_end) as listener:
        train(0.1, epochs=3)
        listener.wait()
    print("items:", process_batch(["1", "2", "three", "4"], lambda item: print("item", int(item))))


if __name__ == "__main__":
    main()
