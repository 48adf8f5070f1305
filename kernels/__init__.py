"""The compiled core, installed as `fastrnn._kernels`. Private: nothing here is API.

From the top, each floor knowing only the ones below:

    stepper.pyx         the state of one batch of streams, and its step
    capi.h              that step for C, as ../fastrnn/include/fastrnn.h promises it
    pool.pyx            the states of many streams that come and go; slots.c .h keeps them
    product.pyx         a linear layer on the SIMD engine's tiles
    codes.pyx           weights as small integers; quantise.h does a row
    core.pyx            boundary: checks arrays, packs and runs a stack
    arrays.pxd claim.h  what these check: arrays; one user at a time
    signals.h .pxd      Python's signal handlers during a long run
    stack.h   .pxd      a stack of layers and directions, and a run through it
    engine.h  .pxd      the seam: what an engine is, and how one layer is run
    fpmode.h            denormals flushed around a run, the caller's mode restored

    blas.pyx            BLAS engine: products by SciPy's BLAS, float32 and float64
    gates.c  .h         its gate passes; gates_body.h is the body, compiled per type

    simd.pyx            SIMD engine: names the instruction sets that can be run here
    simd.h              what it is in C, and the map of its files
    simd_dispatch.c     the table of instruction sets; cpu.c asks the CPU
    simd_<isa>.c        one stub per instruction set around simd_body.h
    run.h  layer.h      a run over a sequence; a packed layer
    product.h           a linear layer
    cells.h             gates and state of each cell
    tile.h  pack.h      the matrix product, and the layout it reads
    activation.h        sigmoid and tanh
    vector_<isa>.h      the few vector operations of one instruction set
    team.c  .h          threads for one run, and who does which blocks
"""
