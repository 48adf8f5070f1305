"""Measurements of time, latency and cost, beside other runtimes and the machine's limit.

    cases.py     what is computed: shapes, flops, bytes; the grid, DeepBench's set
    models.py    models that others published, as cases with their own weights
    limits.py    what one core can do: multiply-adds, and reads by working-set size
    timing.py    turn by turn, CPU and wall time
    peers/       the other runtimes, one file each
    measure.py   a case, by fastrnn and its peers: the rows of a record
    latency.py   the tail of one stream's steps
    costs.py     import, load and pack, sizes on disk
    record.py    the JSON
    summary.py   what a record's cases say together

Needs NumPy only; each peer is imported when it is first used.
"""
