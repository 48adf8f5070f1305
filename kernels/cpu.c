#include "cpu.h"

#if defined(__x86_64__)
#include <cpuid.h>

/* clang 14's __builtin_cpu_supports does not know F16C. */
static int has_f16c(void)
{
    unsigned eax, ebx, ecx, edx;
    return __get_cpuid(1, &eax, &ebx, &ecx, &edx) && (ecx & bit_F16C);
}

/* __builtin_cpu_supports reads XGETBV beside CPUID: registers the OS does not save count as absent. */
int fr_cpu_has_avx2(void)
{
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c();
}

int fr_cpu_has_avx512(void)
{
    return fr_cpu_has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl")
        && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq");
}

int fr_cpu_has_avx512vnni(void) { return fr_cpu_has_avx512() && __builtin_cpu_supports("avx512vnni"); }

#else

int fr_cpu_has_avx2(void) { return 0; }
int fr_cpu_has_avx512(void) { return 0; }
int fr_cpu_has_avx512vnni(void) { return 0; }

#endif
