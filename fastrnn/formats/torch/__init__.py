"""What PyTorch writes.

saved.py     torch.save since 1.6, and TorchScript; legacy.py: before, and plain pickles
tensors.py   from records of tensors to arrays that are read later
modules.py   what a module says of itself; scriptcode.py, frozen.py: what TorchScript's code does
export.py    .pt2 of torch.export; graph.py: what its program says
"""
