#include "cpu.h"

#if defined(__x86_64__)
#include <cpuid.h>

/* By hand, since __builtin_cpu_supports is not to be had from every compiler: clang 14's does not know F16C, and zig's
 * answers no to everything. Bits are those of Intel's manual, volume 2, CPUID. */
#define BIT(n) (1u << (n))

/* What of the registers the OS saves: XCR0. */
static unsigned saved_by_os(void)
{
    unsigned low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return low;
}

#define SAVED_YMM (BIT(1) | BIT(2))                             /* XMM, upper halves of YMM */
#define SAVED_ZMM (SAVED_YMM | BIT(5) | BIT(6) | BIT(7))        /* masks, upper halves of ZMM, ZMM 16 to 31 */
#define LEAF1_ECX (BIT(12) | BIT(27) | BIT(28) | BIT(29))       /* FMA, OSXSAVE, AVX, F16C */
#define LEAF7_AVX2 BIT(5)
#define LEAF7_AVX512 (BIT(16) | BIT(17) | BIT(30) | BIT(31))    /* F, DQ, BW, VL */
#define LEAF7_ECX_VNNI BIT(11)

/* Nonzero if all these bits of leaf 7 are set, and the OS saves all these registers. */
static int has(unsigned leaf7_ebx, unsigned leaf7_ecx, unsigned saved)
{
    unsigned eax, ebx, ecx, edx;
    if (!__get_cpuid(1, &eax, &ebx, &ecx, &edx) || (ecx & LEAF1_ECX) != LEAF1_ECX)
        return 0;
    if (!__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx))
        return 0;
    return (ebx & leaf7_ebx) == leaf7_ebx && (ecx & leaf7_ecx) == leaf7_ecx && (saved_by_os() & saved) == saved;
}

int fr_cpu_has_avx2(void) { return has(LEAF7_AVX2, 0, SAVED_YMM); }
int fr_cpu_has_avx512(void) { return has(LEAF7_AVX2 | LEAF7_AVX512, 0, SAVED_ZMM); }
int fr_cpu_has_avx512vnni(void) { return has(LEAF7_AVX2 | LEAF7_AVX512, LEAF7_ECX_VNNI, SAVED_ZMM); }

#else

int fr_cpu_has_avx2(void) { return 0; }
int fr_cpu_has_avx512(void) { return 0; }
int fr_cpu_has_avx512vnni(void) { return 0; }

#endif
