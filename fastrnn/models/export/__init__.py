"""From torch modules to ONNX files, checked. Only here is torch imported, and only when called.

write.py       export: what users call
calls.py       a module's arguments: names, axes, other sizes
runs.py        what the module answers to them
exporters.py   torch's two exporters
nodes.py       recurrent modules as ONNX nodes
"""

from fastrnn.models.export.write import export

__all__ = ["export"]
