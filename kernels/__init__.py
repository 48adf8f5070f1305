"""The compiled core, installed as `fastrnn._kernels`. Private: nothing here is API.

Floors, each knowing only the ones below:

    core.pyx            boundary: checks arrays, stacks layers and directions, owns stream state
    engine.h  .pxd      the seam: what an engine is, and how one layer is run
    blas.pyx            BLAS engine: products by SciPy's BLAS, float32 and float64
    gates.c  .h         its gate passes; gates_body.h is the body, compiled per type
    fpmode.h            denormals flushed around a run, the caller's mode restored
"""
