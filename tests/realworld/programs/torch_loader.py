"""torch's DataLoader with two workers: whole batches in order, and its shared tensors through a queue."""
import torch
import torch.multiprocessing
from torch.utils.data import DataLoader, Dataset


class Squares(Dataset):
    def __len__(self):
        return 64

    def __getitem__(self, index):
        return torch.full((10,), float(index)) ** 2, index


def fill(queue):
    queue.put(torch.arange(1000))
    queue.get()


if __name__ == "__main__":
    for batch, indices in DataLoader(Squares(), batch_size=16, num_workers=2):
        print(batch.sum().item(), indices.tolist())
    here, there = torch.multiprocessing.Queue(), torch.multiprocessing.Queue()
    p = torch.multiprocessing.Process(target=fill, args=(here,))
    p.start()
    print(here.get().sum().item())
    here.put(None)
    p.join()
    print(p.exitcode)
