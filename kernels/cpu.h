/* The one place that asks the CPU. Each answer covers the OS too: it must save the registers. */
#ifndef FASTRNN_CPU_H
#define FASTRNN_CPU_H

int fr_cpu_has_avx2(void);      /* AVX2, FMA, F16C */
int fr_cpu_has_avx512(void);    /* AVX-512 F, VL, BW, DQ, and all of avx2 */
int fr_cpu_has_avx512vnni(void);    /* AVX-512 VNNI, and all of avx512 */

#endif
