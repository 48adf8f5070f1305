"""Pickles, read into inert records: nothing in them is imported, called or hashed.

unpickle.py      the interpreter, its state (interpreter.py) and what each opcode does (opcodes.py)
inert.py         what objects become
constructors.py  which globals stand for tensors, arrays and containers (torchrecords.py: torch's)
flatten.py       names for the tensors in the tree of records
"""
