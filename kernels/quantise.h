/* Rows of weights as small integers, and what a row is multiplied by. */
#ifndef FASTRNN_QUANTISE_H
#define FASTRNN_QUANTISE_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Rows of smaller weights become zeros: the reciprocal of their scale might not be finite. */
#define FR_NEGLIGIBLE_WEIGHT 0x1p-100f

#define FR_LANES 8      /* sums side by side, for vectors */

/* to the nearest integer, of two the even one; |a| < 2^22. rintf is a call where there is no SSE 4.1. */
static inline float fr_round(float a) { return (a + 0x1.8p23f) - 0x1.8p23f; }

/* w (n) as codes (n), whole numbers of at most `largest` in magnitude, times the scale that is returned; `errors` is
 * scratch for n.
 *
 * The largest weight gets the largest code. Codes are rounded to nearest, but for a few that are nearly as far from
 * their other neighbour, so that the errors add up to less than one: inputs are seldom 0 on average (after a ReLU,
 * never), and what they have in common would be multiplied by that sum. Of Silero's cell it makes a third of the
 * error. */
static float fr_quantise_row(const float *w, size_t n, float largest, float *codes, float *errors)
{
    float peaks[FR_LANES] = {0}, sums[FR_LANES] = {0}, peak = 0.0f, sum = 0.0f;
    size_t lanes = n - n % FR_LANES;
    for (size_t k = 0; k < n; k += FR_LANES)
        for (size_t i = 0; i < (k < lanes ? FR_LANES : n - k); i++)
            peaks[i] = fabsf(w[k + i]) > peaks[i] ? fabsf(w[k + i]) : peaks[i];
    for (size_t i = 0; i < FR_LANES; i++)
        peak = peaks[i] > peak ? peaks[i] : peak;
    if (peak < FR_NEGLIGIBLE_WEIGHT) {
        memset(codes, 0, n * sizeof *codes);
        return 0.0f;
    }
    float inverse = (float)(largest / (double)peak);
    for (size_t k = 0; k < n; k += FR_LANES)
        for (size_t i = 0; i < (k < lanes ? FR_LANES : n - k); i++) {
            float exact = w[k + i] * inverse;
            codes[k + i] = fr_round(exact);
            errors[k + i] = codes[k + i] - exact;
            sums[i] += errors[k + i];
        }
    for (size_t i = 0; i < FR_LANES; i++)
        sum += sums[i];
    /* As errors are spread evenly, half as many again as are wanted are above the first bound, as a rule; above 0
     * there are always enough, since none is above 0.5. */
    float sign = sum < 0.0f ? -1.0f : 1.0f, excess = fr_round(sum * sign);
    const float bounds[] = {0.5f - 1.5f * excess / (float)n, 0.25f, 0.0f};
    for (size_t i = 0; i < 3 && excess > 0.0f; i++)
        for (size_t k = 0; k < n && excess > 0.0f; k++)
            if (errors[k] * sign > bounds[i]) {
                codes[k] -= sign;
                errors[k] = 0.0f;
                excess -= 1.0f;
            }
    return (float)((double)peak / largest);
}

#endif
