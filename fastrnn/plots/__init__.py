"""Pictures and pages of what was measured or traced. Only these need the extra `plots`.

`style` is what figures share; `gates` draws a trace; `charts` draws a benchmark record; `page` sets
a record's charts and tables on one self-contained page.
"""
