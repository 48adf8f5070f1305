#include "simd_stub.h"

#if defined(__aarch64__)

/* Every AArch64 CPU has NEON: no target region, no question to the CPU. */
#define ISA(name) name##_neon

#include "vector_neon.h"
#include "simd_body.h"

#endif
