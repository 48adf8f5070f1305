/* What every stub needs before its instruction set begins. */
#define _DEFAULT_SOURCE     /* madvise */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#if defined(__linux__)
#include <sys/mman.h>
#endif

#include "simd_isa.h"
#include "team.h"

#define INLINE static inline __attribute__((always_inline))

/* Integers may be added in any order, and compilers choose one that needs more registers than there are: to them, what
 * `sum` is added to next is another. */
#if defined(__x86_64__)
#define KEEP_ORDER(sum) __asm__("" : "+v"(sum))
#elif defined(__aarch64__)
#define KEEP_ORDER(sum) __asm__("" : "+w"(sum))
#else
#define KEEP_ORDER(sum) ((void)0)
#endif

/* UNROLL: the loop that follows has a constant, small count: unroll it whole, so that its sums are registers.
 * UNROLL_SOME: keep its counting from taking the multiplications' places in the pipeline; of smaller vectors, more,
 * but GCC then spills. UNROLL_INTEGERS: the same of integer weights, where clang spills. */
#if defined(__clang__) && defined(__aarch64__)
#define UNROLL _Pragma("clang loop unroll(full)")
#define UNROLL_SOME _Pragma("clang loop unroll_count(8)")
#elif defined(__clang__)
#define UNROLL _Pragma("clang loop unroll(full)")
#define UNROLL_SOME _Pragma("clang loop unroll_count(4)")
#define UNROLL_INTEGERS _Pragma("clang loop unroll_count(1)")
#else
#define UNROLL _Pragma("GCC unroll 32")
#define UNROLL_SOME _Pragma("GCC unroll 4")
#endif
#ifndef UNROLL_INTEGERS
#define UNROLL_INTEGERS UNROLL_SOME
#endif

/* The tile of one row of integer weights, `most` vectors at once. Clang loads all of a row's weights before it
 * multiplies, and stores what then finds no register. */
#if defined(__clang__) && defined(__x86_64__)
#define ONE_ROW(row, most) row(1, 4, 4)
#else
#define ONE_ROW(row, most) row(1, most, most)
#endif
