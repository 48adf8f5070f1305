"""Pictures and pages of what was measured or traced. Only these need the extra `plots`.

`style` is what figures share; `gates` draws a trace; `charts`, `latency` and `roofline` draw a
benchmark record; `page` sets a record's figures and tables on one self-contained page. `tables`
needs no extra: it says in words and figures what a record holds.
"""
