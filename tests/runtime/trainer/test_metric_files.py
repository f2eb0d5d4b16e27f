"""Metrics as tables and files, in the words that scripts and their readers know from upstream."""

import json

import torch

from runtime import Trainer, TrainingArguments

METRICS = {
    "train_runtime": 3725.678,
    "train_loss": 0.123456,
    "total_flos": 5 * 2**30 + 7.0,
    "train_mem_gpu_alloc_delta": 3 * 2**20 + 1,
    "train_samples": 64,
}


class TestMetricFiles:
    """What `log_metrics` prints and `save_metrics` writes."""

    def make(self, folder):
        return Trainer(torch.nn.Linear(2, 1), TrainingArguments(output_dir=str(folder)))

    def test_the_table(self, tmp_path, capsys):
        """Sorted, aligned, in units that people read."""
        with self.make(tmp_path) as trainer:
            trainer.log_metrics("train", METRICS)

        assert capsys.readouterr().out.splitlines() == [
            "***** train metrics *****",
            "  total_flos                =        5GF",
            "  train_loss                =     0.1235",
            "  train_mem_gpu_alloc_delta =        3MB",
            "  train_runtime             = 1:02:05.67",
            "  train_samples             =         64",
        ]

    def test_the_files(self, tmp_path):
        """Unrounded; the common one gathers the splits."""
        with self.make(tmp_path / "new") as trainer:
            trainer.save_metrics("train", METRICS)
            trainer.save_metrics("eval", {"eval_loss": 0.5})
            trainer.save_metrics("test", {"test_loss": 0.7}, combined=False)

        def read(name):
            return json.loads((tmp_path / "new" / name).read_text())

        assert read("train_results.json") == METRICS
        assert read("test_results.json") == {"test_loss": 0.7}
        assert read("all_results.json") == {**METRICS, "eval_loss": 0.5}
