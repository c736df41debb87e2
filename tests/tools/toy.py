"""A model and a data set that the command-line tests train in no time."""

import time
from pathlib import Path

import torch
from mmengine.evaluator import BaseMetric
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, METRICS, MODELS
from torch import nn
from torch.utils.data import Dataset


@DATASETS.register_module()
class ToyPoints(Dataset):
    """Four fixed points and their targets."""

    def __init__(self, delay: float = 0) -> None:
        generator = torch.Generator().manual_seed(0)
        self.points = torch.randn(4, 3, generator=generator)
        self.delay = delay

    def __len__(self) -> int:
        return len(self.points)

    def __getitem__(self, index: int) -> dict:
        time.sleep(self.delay)
        return {'inputs': self.points[index], 'data_samples': self.points[index].sum()}


@MODELS.register_module()
class ToyLine(BaseModel):
    """Linear regression; it logs whether its forward pass ran in bfloat16."""

    def __init__(self) -> None:
        super().__init__()
        self.line = nn.Linear(3, 1)
        nn.init.ones_(self.line.weight)
        nn.init.zeros_(self.line.bias)

    def forward(self, inputs, data_samples=None, mode='tensor'):
        out = self.line(torch.stack(list(inputs)))[:, 0]
        if mode == 'predict':
            return [{'value': float(value)} for value in out]
        error = out.float() - 2 * torch.stack(list(data_samples))
        bf16 = torch.tensor(float(out.dtype == torch.bfloat16))
        return {'loss': error.square().mean(), 'bf16': bf16}


@METRICS.register_module()
class ToySum(BaseMetric):
    """Sum of the predictions."""

    def process(self, data_batch, data_samples) -> None:
        self.results.extend(sample['value'] for sample in data_samples)

    def compute_metrics(self, results: list) -> dict:
        return {'toy_sum': sum(results)}


@METRICS.register_module()
class ToyFile(ToySum):
    """A metric that can write a file in place of scoring."""

    def __init__(self, format_only=False, outfile_prefix=None) -> None:
        super().__init__()
        self.format_only = format_only
        self.outfile_prefix = outfile_prefix

    def compute_metrics(self, results: list) -> dict:
        if not self.format_only:
            return super().compute_metrics(results)
        Path(f'{self.outfile_prefix}.txt').write_text(str(sum(results)))
        return {}
