/* What every stub needs before its instruction set begins. */
#include <stdlib.h>

#include "simd_isa.h"

#define INLINE static inline __attribute__((always_inline))

/* The loop that follows has a constant, small count: unroll it whole, so that its sums are registers. */
#if defined(__clang__)
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 32")
#endif
