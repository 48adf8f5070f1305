#include "simd_stub.h"

#if defined(__x86_64__)
#include <immintrin.h>

#define AVX512_VNNI
#define ISA(name) name##_avx512vnni

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512vnni,avx512f,avx512vl,avx512bw,avx512dq,avx2,fma,f16c"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx512vnni,avx512f,avx512vl,avx512bw,avx512dq,avx2,fma,f16c")
#endif

#include "vector_avx512.h"
#include "simd_body.h"

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

#endif
