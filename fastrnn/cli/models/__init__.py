"""The commands on whole models, in .onnx files; each is named as the command that calls it.

options.py   --fix and --state; loading with them
given.py     inputs to run a model with
inspect.py  verify.py  bench.py  trace.py
"""
