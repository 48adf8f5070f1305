/* Floating-point mode around a run: default rounding, denormals flushed, no trap, and the
 * caller's mode and sticky flags put back afterwards. A recurrent state that decays towards
 * zero would otherwise drag whole steps through denormals, at 10 to 100 times the cost. */
#ifndef FASTRNN_FPMODE_H
#define FASTRNN_FPMODE_H

#if defined(__SSE2__)
#include <xmmintrin.h>
typedef unsigned fr_fpmode;
#define FR_MXCSR_FLUSH 0x9FC0u /* reset value 0x1F80, flush-to-zero 0x8000, denormals-are-zero 0x40 */
static inline fr_fpmode fr_fpmode_enter(void)
{
    fr_fpmode caller = _mm_getcsr();
    _mm_setcsr(FR_MXCSR_FLUSH);
    return caller;
}
static inline void fr_fpmode_leave(fr_fpmode caller) { _mm_setcsr(caller); }
#elif defined(__aarch64__)
typedef unsigned long fr_fpmode;
#define FR_FPCR_FLUSH (1ul << 24) /* FZ */
static inline fr_fpmode fr_fpmode_enter(void)
{
    fr_fpmode caller;
    __asm__ volatile("mrs %0, fpcr" : "=r"(caller));
    __asm__ volatile("msr fpcr, %0" : : "r"(FR_FPCR_FLUSH));
    return caller;
}
static inline void fr_fpmode_leave(fr_fpmode caller)
{
    __asm__ volatile("msr fpcr, %0" : : "r"(caller));
}
#else
typedef int fr_fpmode;
static inline fr_fpmode fr_fpmode_enter(void) { return 0; }
static inline void fr_fpmode_leave(fr_fpmode caller) { (void)caller; }
#endif

#endif
