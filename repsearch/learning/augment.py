"""Data augmentation (A.3): random horizontal flips, and random crops from images padded by 2 pixels."""

import torch
import torch.nn.functional as F
from torch import Tensor


def augment(images: Tensor, flip: bool, pad: int, generator: torch.Generator) -> Tensor:
    """Flip each image with probability ½, then crop it at random from itself padded by reflection (as in the lineage).

    images: [B, C, H, W] on any device. flip: whether to flip. pad: pixels on each side, below H and W; 0 for no crops.
    generator: on the CPU, so that a run draws the same on every device. Returns [B, C, H, W].
    """
    count, _, height, width = images.shape
    device = images.device
    if flip:
        flips = (torch.rand(count, generator=generator) < 0.5).to(device)
        images = torch.where(flips[:, None, None, None], images.flip(-1), images)
    if pad:
        padded = F.pad(images, (pad,) * 4, mode="reflect")
        shifts = torch.randint(2 * pad + 1, (2, count, 1), generator=generator).to(device)
        rows = (shifts[0] + torch.arange(height, device=device))[:, :, None]
        columns = (shifts[1] + torch.arange(width, device=device))[:, None, :]
        images = padded.permute(0, 2, 3, 1)[torch.arange(count, device=device)[:, None, None], rows, columns]
        images = images.permute(0, 3, 1, 2)
    return images
