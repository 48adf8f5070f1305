"""Recurrent layers and cells with torch's semantics on NumPy arrays.

lstm.py gru.py rnn.py   each layer with its cell
recurrent.py cell.py    what layers share, what cells share
described.py            what a layer says of itself; habits.py: what torch has and this has not
options.py              how a layer computes: dtype, engine, isa, threads
engines.py              which engines and instruction sets there are, and packing for them
weights.py              what names and shapes of a state dict say
fingerprint.py          what tells one model from another
trace.py retention.py   every gate at every step; how long units remember
"""

from fastrnn.layers.gru import GRU, GRUCell
from fastrnn.layers.lstm import LSTM, LSTMCell
from fastrnn.layers.recurrent import RecurrentLayer
from fastrnn.layers.rnn import RNN, RNNCell

__all__ = ["GRU", "LAYERS", "LSTM", "RNN", "GRUCell", "LSTMCell", "RNNCell", "RecurrentLayer"]

LAYERS: dict[str, type[LSTM | GRU | RNN]] = {"LSTM": LSTM, "GRU": GRU, "RNN": RNN}
