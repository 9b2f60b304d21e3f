"""Datasets and batches, with PyTorch's names."""

from .dataloader import DataLoader, RandomSampler, SequentialSampler, default_collate
from .dataset import Dataset, Subset, TensorDataset, random_split

__all__ = [
    "DataLoader", "Dataset", "RandomSampler", "SequentialSampler", "Subset", "TensorDataset", "default_collate",
    "random_split",
]  # fmt: skip
